"""What a scene is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motive_fo.synthetic.texture import BACKGROUNDS

if TYPE_CHECKING:
    from motive_fo.synthetic.scene import Scene


def caption(scene: Scene) -> str:
    """One sentence that names the object, its motion and the place."""
    article = "an" if scene.texture[0] in "aeiou" else "a"
    thing = f"{article} {scene.texture} {scene.colour} {scene.shape}"
    place = BACKGROUNDS[scene.background].phrase
    camera = {
        "fixed": "",
        "left": "the camera pans to the left",
        "right": "the camera pans to the right",
        "up": "the camera tilts up",
        "down": "the camera tilts down",
        "in": "the camera zooms in",
        "out": "the camera zooms out",
        "up left": "the camera moves up and to the left",
        "up right": "the camera moves up and to the right",
        "down left": "the camera moves down and to the left",
        "down right": "the camera moves down and to the right",
        "clockwise": "the camera rolls clockwise",
        "counterclockwise": "the camera rolls counterclockwise",
        "hand-held": "the camera shakes in the hand",
    }[scene.camera]
    if scene.motion in ("pan", "tilt", "diagonal"):
        return f"{camera} past {thing} {place}"
    if scene.motion == "zoom":
        return f"{camera} {'on' if scene.camera == 'in' else 'from'} {thing} {place}"
    hidden = " behind a post" if scene.post is not None else ""
    deed = f"{thing} {_deed(scene)}{hidden} {place}"
    return f"{camera} while {deed}" if camera else deed


def _deed(scene: Scene) -> str:
    side = "right" if scene.direction > 0 else "left"
    pace = "slowly" if scene.speed < 1 / 3 else "quickly" if scene.speed > 2 / 3 else ""
    words = {
        "slide": f"slides {pace} to the {side}",
        "fall": f"falls {pace} to the ground",
        "bounce": f"bounces {pace} to the {side}",
        "roll": f"rolls {pace} to the {side}",
        "spin": f"spins {pace} {'clockwise' if scene.direction > 0 else 'counterclockwise'}",
        "swing": f"swings {pace} on a rope",
        "float": f"floats {pace} upwards",
        "stretch": f"stretches {pace} {'upwards' if scene.direction > 0 else 'sideways'}",
        "compress": f"is {pace} pressed flat",
        "still": "stands still",
        "orbit": f"moves {pace} in a circle",
        "pulse": f"grows and shrinks {pace}",
        "zigzag": f"moves {pace} in a zigzag to the {side}",
        "throw": f"is thrown {pace} to the {side}",
        "spiral": f"moves {pace} in a spiral",
        "topple": f"topples {pace} to the {side}",
        "loom": f"comes {pace} nearer",
        "lean": f"leans {pace} from side to side",
        "eight": f"moves {pace} in a figure of eight",
        "wobble": f"wobbles {pace}",
    }[scene.action]
    return " ".join(words.split())
