// Binds attention and what a layer computes between its products; part of module.cc.
#pragma once

#include "program.h"

void bind_attention(octavo::Operations& operations);
