"""How exact forms of Winograd's algorithm are, with numpy and with our kernels."""
