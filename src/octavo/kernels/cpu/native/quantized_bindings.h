// Binds what computes with quantised weights; part of module.cc.
#pragma once

#include "program.h"

void bind_quantized_linear(nanobind::module_& m, octavo::Operations& operations);
