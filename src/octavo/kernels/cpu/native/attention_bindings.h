// Binds attention and what a layer computes between its products; part of module.cc.
#pragma once

#include <nanobind/nanobind.h>

void bind_attention(nanobind::module_& m);
