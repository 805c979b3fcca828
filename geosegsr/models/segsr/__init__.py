"""The SeG-SR network: a trunk of SR units that semantic features steer."""
