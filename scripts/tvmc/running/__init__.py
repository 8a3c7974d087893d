"""``tvmc run``: interpreters of TFLite, TVM's virtual machine, here and on boards."""
