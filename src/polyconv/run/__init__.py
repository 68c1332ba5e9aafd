"""Running layers on arrays: the problem an engine is given, the engines, and the plan that picks one."""
