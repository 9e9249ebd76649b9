"""RunPod, as its customers' programs see it: REST v2 and GraphQL over one stock of pods."""
