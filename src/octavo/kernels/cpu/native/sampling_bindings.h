// Binds what chooses tokens; part of module.cc.
#pragma once

#include "program.h"

void bind_sampling(octavo::Operations& operations);
