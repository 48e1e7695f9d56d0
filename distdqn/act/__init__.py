"""Acting: a policy plays its slots of an environment and cuts what happened into segments."""
