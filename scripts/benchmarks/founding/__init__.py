"""The measurements that the project began with, again, beside what was published of them."""
