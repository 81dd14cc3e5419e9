"""Many Tasks on many nodes: the operator's statement, and its status of each Task."""
