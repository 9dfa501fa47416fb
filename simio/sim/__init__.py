"""The readable oracle: the same pipeline as SimPy processes. The only room that imports simpy."""
