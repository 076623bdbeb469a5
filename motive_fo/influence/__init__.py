"""From sketches to a selection: cosines, percentile ranks, votes, an order without ties."""
