"""For tests, ours and others': FakeCloud and the conformance suite."""
