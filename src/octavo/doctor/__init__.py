"""What can be said of an installation or a configuration without starting it."""
