"""``tvmc diff`` and verification: a compiled model beside LiteRT, tensor by tensor."""
