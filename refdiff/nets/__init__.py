"""Networks, small and plain: what the losses and samplers of the topics are tried on."""
