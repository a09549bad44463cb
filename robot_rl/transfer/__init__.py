"""Domain-selective transfer from many source tasks: a teacher, its distillation, action replay."""
