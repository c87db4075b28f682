"""What a model is: the contract, the networks, the shipped weights."""
