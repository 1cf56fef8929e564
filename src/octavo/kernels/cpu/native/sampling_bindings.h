// Binds what chooses tokens; part of module.cc.
#pragma once

#include <nanobind/nanobind.h>

void bind_sampling(nanobind::module_& m);
