#include "quantized_bindings.h"

#include <nanobind/stl/string.h>

#include <stdexcept>

#include "address.h"
#include "grouped_linear.h"
#include "int8_linear.h"
#include "integer_probe.h"
#include "weight_rounding.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace octavo;

namespace {

using Released = nb::call_guard<nb::gil_scoped_release>;

// Activations as they come, or a buffer of quantised ones; the other address is 0.
QuantizedRows rows_of(uintptr_t x, int64_t x_stride, uintptr_t quantized, int64_t num_rows, int64_t in_features,
                      int64_t group_size) {
    if (quantized) return {at<void>(quantized), num_rows, in_features, group_size};
    void* buffer = scratch(QuantizedRows::num_bytes(num_rows, in_features, group_size));
    const QuantizedRows rows(buffer, num_rows, in_features, group_size);
    quantize_rows(at<const float>(x), x_stride, rows);
    return rows;
}

void refuse(int64_t out_features, int64_t in_features, const std::string& why) {
    throw std::invalid_argument("a weight of " + std::to_string(out_features) + " by " + std::to_string(in_features) +
                                " cannot be packed" + why);
}

Int8Matrix make_int8(int64_t out_features, int64_t in_features, bool gated) {
    if (out_features < 0 || in_features < 0 || (gated && out_features % 2)) refuse(out_features, in_features, "");
    if (in_features > Int8Matrix::kMaxInFeatures)
        refuse(out_features, in_features,
               ": sums of more than " + std::to_string(Int8Matrix::kMaxInFeatures) + " products may not fit 32 bits");
    return Int8Matrix(out_features, in_features, gated);
}

GroupedMatrix make_grouped(int64_t out_features, int64_t in_features, int bits, int64_t group_size,
                           const std::string& scale_type, const std::string& shift, bool gated) {
    if (out_features < 0 || in_features < 0 || (gated && out_features % 2)) refuse(out_features, in_features, "");
    if (group_size != 32 && group_size != 64 && group_size != 128 && !(bits == 8 && group_size == 16))
        refuse(out_features, in_features, " in groups of " + std::to_string(group_size) +
                                              "; they may be 32, 64 or 128, of 8 bits also 16");
    if (in_features % group_size) refuse(out_features, in_features, " in groups of " + std::to_string(group_size));
    if (scale_type != "float16" && scale_type != "float32")
        throw std::invalid_argument("no scales of type " + scale_type);
    const GroupedFormat format{bits, group_size, scale_type == "float16" ? ScaleType::fp16 : ScaleType::fp32,
                               shift == "zeros"     ? Shift::zeros
                               : shift == "offsets" ? Shift::offsets
                                                    : Shift::half};
    return GroupedMatrix(out_features, in_features, format, gated);
}

template <typename Args, typename Matrix>
void bind_product(Operations& operations, const char* name, void (*compute)(const Args&)) {
    operations.def(
        name,
        [compute](const Matrix& weight, uintptr_t x, int64_t x_stride, uintptr_t quantized, TokenRows num_rows,
                  uintptr_t y, int64_t y_stride, uintptr_t bias, uintptr_t residual, int64_t residual_stride) {
            compute({&weight, rows_of(x, x_stride, quantized, num_rows, weight.in_features(), weight.group_size()),
                     {at<float>(y), y_stride, at<const float>(bias), at<const float>(residual), residual_stride}});
        },
        "weight"_a, "x"_a, "x_stride"_a, "quantized"_a, "num_rows"_a, "y"_a, "y_stride"_a, "bias"_a, "residual"_a,
        "residual_stride"_a);
}

void bind_int8(nb::module_& m, Operations& operations) {
    nb::class_<Int8Matrix>(m, "Int8Matrix")
        .def_prop_ro("num_bytes", &Int8Matrix::num_bytes)
        .def(
            "fill",
            [](Int8Matrix& self, uintptr_t values, int64_t row_stride, uintptr_t scales, int64_t first,
               int64_t num_rows) {
                self.fill(at<const int8_t>(values), row_stride, at<const float>(scales), first, num_rows);
            },
            "values"_a, "row_stride"_a, "scales"_a, "first"_a, "num_rows"_a, Released())
        .def(
            "read",
            [](const Int8Matrix& self, int64_t first, int64_t num_rows, uintptr_t values, uintptr_t scales) {
                self.read(first, num_rows, at<int8_t>(values), at<float>(scales));
            },
            "first"_a, "num_rows"_a, "values"_a, "scales"_a, Released())
        .def(
            "gather",
            [](const Int8Matrix& self, uintptr_t row_ids, int64_t num_ids, uintptr_t out, int64_t out_stride) {
                self.gather(at<const int64_t>(row_ids), num_ids, at<float>(out), out_stride);
            },
            "row_ids"_a, "num_ids"_a, "out"_a, "out_stride"_a, Released());
    m.def("pack_int8", &make_int8, "out_features"_a, "in_features"_a, "gated"_a, Released());
    bind_product<Int8LinearArgs, Int8Matrix>(operations, "int8_linear", int8_linear);
}

void bind_grouped(nb::module_& m, Operations& operations) {
    nb::class_<GroupedMatrix>(m, "GroupedMatrix")
        .def_prop_ro("num_bytes", &GroupedMatrix::num_bytes)
        .def(
            "fill",
            [](GroupedMatrix& self, uintptr_t values, uintptr_t scales, uintptr_t shifts, int64_t first,
               int64_t num_rows) {
                self.fill(at<const uint8_t>(values), at<const void>(scales), at<const void>(shifts), first, num_rows);
            },
            "values"_a, "scales"_a, "shifts"_a, "first"_a, "num_rows"_a, Released())
        .def(
            "read",
            [](const GroupedMatrix& self, int64_t first, int64_t num_rows, uintptr_t values, uintptr_t scales,
               uintptr_t shifts) {
                self.read(first, num_rows, at<uint8_t>(values), at<void>(scales), at<void>(shifts));
            },
            "first"_a, "num_rows"_a, "values"_a, "scales"_a, "shifts"_a, Released())
        .def(
            "gather",
            [](const GroupedMatrix& self, uintptr_t row_ids, int64_t num_ids, uintptr_t values, uintptr_t scales,
               uintptr_t shifts) {
                self.gather(at<const int64_t>(row_ids), num_ids, at<uint8_t>(values), at<void>(scales),
                            at<void>(shifts));
            },
            "row_ids"_a, "num_ids"_a, "values"_a, "scales"_a, "shifts"_a, Released());
    m.def("pack_grouped", &make_grouped, "out_features"_a, "in_features"_a, "bits"_a, "group_size"_a, "scale_dtype"_a,
          "shift"_a, "gated"_a, Released());
    bind_product<GroupedLinearArgs, GroupedMatrix>(operations, "grouped_linear", grouped_linear);
}

void bind_rows(nb::module_& m) {
    m.def("quantized_rows_bytes", &QuantizedRows::num_bytes, "num_rows"_a, "size"_a,
          "group_size"_a);
    m.def(
        "quantize_rows",
        [](uintptr_t x, int64_t num_rows, int64_t size, int64_t group_size, int64_t x_stride, uintptr_t buffer) {
            quantize_rows(at<const float>(x), x_stride, {at<void>(buffer), num_rows, size, group_size});
        },
        "x"_a, "num_rows"_a, "size"_a, "group_size"_a, "x_stride"_a, "buffer"_a, Released());
}

DenseWeight dense_weight(uintptr_t weight, const std::string& type, int64_t num_rows, int64_t num_columns,
                         int64_t row_stride) {
    return {at<const void>(weight), weight_type(type), num_rows, num_columns, row_stride};
}

void bind_weight_rounding(nb::module_& m) {
    m.def(
        "round_to_int8",
        [](uintptr_t weight, const std::string& type, int64_t num_rows, int64_t num_columns, int64_t row_stride,
           uintptr_t values, uintptr_t scales) {
            round_to_int8(dense_weight(weight, type, num_rows, num_columns, row_stride), at<int8_t>(values),
                          at<float>(scales));
        },
        "weight"_a, "dtype"_a, "num_rows"_a, "num_columns"_a, "row_stride"_a, "values"_a, "scales"_a, Released());
    m.def(
        "round_to_int4",
        [](uintptr_t weight, const std::string& type, int64_t num_rows, int64_t num_columns, int64_t row_stride,
           int64_t group_size, uintptr_t values, uintptr_t scales) {
            round_to_int4(dense_weight(weight, type, num_rows, num_columns, row_stride), group_size,
                          at<uint8_t>(values), at<uint16_t>(scales));
        },
        "weight"_a, "dtype"_a, "num_rows"_a, "num_columns"_a, "row_stride"_a, "group_size"_a, "values"_a, "scales"_a,
        Released());
}

}  // namespace

void bind_quantized_linear(nb::module_& m, Operations& operations) {
    bind_rows(m);
    bind_int8(m, operations);
    bind_grouped(m, operations);
    bind_weight_rounding(m);
    m.def("multiply_int8", &multiply_int8, "steps"_a, Released());
}
