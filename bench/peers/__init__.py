"""The same jobs done otherwise, to be measured in the same run."""
