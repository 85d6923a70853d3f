/* Checks an implementation of the DDPM and DDIM coefficients against refdiff's golden values.
 *
 *   refdiff golden export --topic ddim --format csv --output ddim.csv
 *   cc -std=c11 -O1 consume_golden.c -o consume_golden -lm
 *   ./consume_golden ddim.csv
 *
 * Exit status: 0 when every value is met, 1 when one is not, 2 when the file cannot be read or holds nothing to check.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 13, LINE = 1 << 16 };
enum { ID = 1, FORMULA = 2, FLAGS = 3, OUTPUT = 4, VALUE = 6, FLOAT64 = 8, TOLERANCE = 9, INPUTS = 12 };

typedef struct {
    double x_t, eps, z;
} coefficients;

/* The implementation under test: x_s = x_t * (x_t) + eps * (eps) + z * (noise). */
static coefficients ddim(double abar_t, double abar_s, double eta) {
    double sigma = eta * sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s));
    double scale = sqrt(abar_s / abar_t);
    coefficients c = {scale, sqrt(1 - abar_s - sigma * sigma) - scale * sqrt(1 - abar_t), sigma};
    return c;
}

static coefficients ddpm(double abar_t, double abar_s, int is_beta) {
    double alpha = abar_t / abar_s, beta = 1 - alpha;
    double variance = is_beta ? beta : beta * (1 - abar_s) / (1 - abar_t);
    coefficients c = {1 / sqrt(alpha), -beta / sqrt(alpha * (1 - abar_t)), sqrt(variance)};
    return c;
}

/* The text after "name=" in "a=1/2;b=3", or NULL. */
static const char *input(const char *inputs, const char *name) {
    size_t length = strlen(name);
    for (const char *at = inputs; at != NULL; at = strchr(at, ';')) {
        at += *at == ';';
        if (strncmp(at, name, length) == 0 && at[length] == '=') return at + length + 1;
    }
    return NULL;
}

/* An exact rational "p/q" or a decimal. */
static double number(const char *text) {
    char *end;
    double numerator = strtod(text, &end);
    return *end == '/' ? numerator / strtod(end + 1, NULL) : numerator;
}

/* Splits a line of CSV in place; a quoted field may hold commas. */
static int split(char *line, char *field[FIELDS]) {
    int count = 0;
    line[strcspn(line, "\n")] = '\0';
    while (count < FIELDS) {
        char stop = *line == '"' ? '"' : ',';
        line += stop == '"';
        field[count++] = line;
        line = strchr(line, stop);
        if (line == NULL) break;
        *line++ = '\0';
        if (stop == '"' && *line == ',') line++;
    }
    return count;
}

/* 1 and the implementation's answer, or 0 when the row asks for something that is not implemented here. */
static int answer(char *field[FIELDS], double *got) {
    const char *t = input(field[INPUTS], "abar_t"), *s = input(field[INPUTS], "abar_s");
    const char *eta = input(field[INPUTS], "eta"), *kind = input(field[INPUTS], "variance_kind");
    coefficients c;
    if (t == NULL || s == NULL || strstr(field[FLAGS], "whole-trajectory") != NULL) return 0;
    if (strncmp(field[FORMULA], "ddim.s", 6) == 0 && eta != NULL)
        c = ddim(number(t), number(s), number(eta));
    else if (strstr(field[FORMULA], "step") != NULL && kind != NULL)
        c = ddpm(number(t), number(s), strcmp(kind, "beta") == 0 || strncmp(kind, "beta;", 5) == 0);
    else
        return 0;
    if (strcmp(field[OUTPUT], "x_t") == 0)
        *got = c.x_t;
    else if (strcmp(field[OUTPUT], "eps") == 0)
        *got = c.eps;
    else if (strcmp(field[OUTPUT], "z") == 0 || strcmp(field[FORMULA], "ddim.sigma") == 0)
        *got = c.z;
    else
        return 0;
    return 1;
}

int main(int count, char **arguments) {
    static char line[LINE];
    int checked = 0, wrong = 0;
    FILE *file = count == 2 ? fopen(arguments[1], "r") : NULL;
    if (file == NULL) {
        fprintf(stderr, "usage: consume_golden FILE.csv\n");
        return 2;
    }
    while (fgets(line, LINE, file) != NULL) {
        char *field[FIELDS];
        double got, wanted, allowed;
        if (split(line, field) != FIELDS || !answer(field, &got)) continue;
        wanted = strtod(field[FLOAT64], NULL);
        /* one rounding more than the tolerance: the double beside the certified value */
        allowed = (strtod(field[TOLERANCE], NULL) + 0x1p-53) * fabs(wanted);
        checked++;
        if (!(fabs(got - wanted) <= allowed) || wanted != strtod(field[VALUE], NULL)) {
            printf("%s %s: got %.17g, wanted %s\n", field[ID], field[OUTPUT], got, field[VALUE]);
            wrong++;
        }
    }
    fclose(file);
    printf("%d values checked, %d wrong\n", checked, wrong);
    return checked == 0 ? 2 : wrong > 0;
}
