"""The three kinds of network (linen, NNX, function) behind one interface, `Network`."""
