/* Determinants of square matrices: elimination with the largest element of each column as its pivot, in double
 * precision, in scratch memory of rank * rank doubles. */
#include <math.h>
#include <stdint.h>

int32_t dcc_det_float32(const float *in, float *out, double *scratch, int64_t matrices, int64_t rank);
int32_t dcc_det_float64(const double *in, double *out, double *scratch, int64_t matrices, int64_t rank);

static double determinant(double *a, int64_t rank)
{
    double product = 1.0;
    for (int64_t column = 0; column < rank; ++column) {
        int64_t pivot = column;
        for (int64_t row = column + 1; row < rank; ++row)
            if (fabs(a[row * rank + column]) > fabs(a[pivot * rank + column]))
                pivot = row;
        double largest = a[pivot * rank + column];
        if (largest == 0.0)
            return 0.0;
        product *= pivot == column ? largest : -largest;
        for (int64_t i = column; i < rank && pivot != column; ++i) {
            double other = a[pivot * rank + i];
            a[pivot * rank + i] = a[column * rank + i];
            a[column * rank + i] = other;
        }
        for (int64_t row = column + 1; row < rank; ++row) {
            double factor = a[row * rank + column] / largest;
            for (int64_t i = column + 1; i < rank; ++i)
                a[row * rank + i] -= factor * a[column * rank + i];
        }
    }
    return product;
}

int32_t dcc_det_float32(const float *in, float *out, double *scratch, int64_t matrices, int64_t rank)
{
    for (int64_t m = 0; m < matrices; ++m) {
        for (int64_t i = 0; i < rank * rank; ++i)
            scratch[i] = in[m * rank * rank + i];
        out[m] = (float)determinant(scratch, rank);
    }
    return 0;
}

int32_t dcc_det_float64(const double *in, double *out, double *scratch, int64_t matrices, int64_t rank)
{
    for (int64_t m = 0; m < matrices; ++m) {
        for (int64_t i = 0; i < rank * rank; ++i)
            scratch[i] = in[m * rank * rank + i];
        out[m] = determinant(scratch, rank);
    }
    return 0;
}
