#!/usr/bin/env bash
# install.sh ARGUMENT...: installs libraries of the lock into /packages, without the parts that no container uses.
# The arguments are those of `uv pip install`. WITHOUT names required packages that this image never imports.
set -euo pipefail
# tensorflow-cpu is TensorFlow without its kernels for GPUs. The images have no drivers for these.
for name in tensorflow ${WITHOUT:-}; do echo "$name; python_version < '3'"; done > without.txt
uv pip install --prefix /packages --constraint requirements.lock --override without.txt --requirement setup.py \
  "$(sed -n 's/^tensorflow==\([^ ;]*\).*/tensorflow-cpu==\1/p' requirements.lock)" "$@"
cd /packages/lib/python3.*/site-packages
rm -r tensorflow/include clang      # for compiling against TensorFlow
# Symbols for debuggers. Small libraries stay as they are: strip breaks some that wheels have repaired.
find . -name '*.so*' -size +40M -exec strip --strip-unneeded {} +
