"""Rewrite an expression as a rational function of independent positive generators.

Square roots, exponentials, logarithms, π, undefined functions and their derivatives each become a
generator. A root of an irreducible factor f is a generator g with the relation gᵠ = f; everything else is
free. An expression whose image is zero modulo the relations is zero; that direction needs no independence.
The other direction is never concluded from a normal form: it takes a witness point (``zero.refute``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp
from sympy.core.function import AppliedUndef


class FloatInProofError(ValueError):
    """A float literal reached a proof; proofs are exact."""


class NotRepresentableError(ValueError):
    """An expression outside the fragment that the decision procedure covers."""


@dataclass
class Generators:
    """The generators met so far: free ones, and roots with their relation ``root**order == radicand``."""

    free: dict[sp.Expr, sp.Symbol] = field(default_factory=dict)
    roots: dict[tuple[sp.Expr, int], sp.Symbol] = field(default_factory=dict)
    angles: dict[sp.Expr, tuple[sp.Symbol, sp.Symbol]] = field(default_factory=dict)
    relations: list[tuple[sp.Symbol, int, sp.Expr]] = field(default_factory=list)
    parts: dict[sp.Expr, int] = field(default_factory=dict)
    denominator: sp.Expr = sp.S.One

    def atom(self, expr: sp.Expr) -> sp.Symbol:
        """A free generator for an opaque expression."""
        if expr not in self.free:
            power = isinstance(expr, sp.Pow) and not expr.exp.is_integer  # so its base is positive
            positive = isinstance(expr, sp.exp) or power or expr.is_positive
            self.free[expr] = sp.Symbol(f"_g{len(self.free)}", positive=positive or None, real=True)
        return self.free[expr]

    def root(self, radicand: sp.Expr, order: int) -> sp.Symbol:
        """The positive ``order``-th root of ``radicand``."""
        key = (radicand, order)
        if key not in self.roots:
            symbol = sp.Symbol(f"_r{len(self.roots)}", positive=True)
            self.roots[key] = symbol
            self.relations.append((symbol, order, radicand))
        return self.roots[key]

    def angle(self, expr: sp.Expr) -> tuple[sp.Symbol, sp.Symbol]:
        """Cosine and sine of an angle."""
        if expr not in self.angles:
            k = len(self.angles)
            cosine, sine = sp.Symbol(f"_c{k}", real=True), sp.Symbol(f"_s{k}", real=True)
            self.angles[expr] = cosine, sine
            self.relations.append((sine, 2, 1 - cosine**2))
        return self.angles[expr]

    def terms(self, expr: sp.Expr) -> tuple[sp.Expr, ...]:
        """The terms of an exponent or angle over the common denominator of all of them, in lowest terms."""
        numerator = sp.expand(sp.cancel(sp.together(expr * self.denominator)))
        return tuple(sp.factor(term / self.denominator) for term in sp.Add.make_args(numerator))

    def whole(self, term: sp.Expr) -> tuple[int, sp.Expr]:
        """A term as an integer times the part of it that serves every fraction of it in the expression."""
        coefficient, rest = term.as_coeff_Mul()
        if not coefficient.is_Rational:
            coefficient, rest = sp.Integer(1), term
        parts = int(sp.ilcm(self.parts.get(rest, 1), coefficient.q))
        return int(coefficient * parts), rest / parts


def reject_floats(expr: sp.Basic) -> None:
    """Raise ``FloatInProofError`` when a float hides in the expression."""
    floats = expr.atoms(sp.Float)
    if floats:
        raise FloatInProofError(f"float {sorted(map(str, floats))[0]} in {expr}: write it as a Rational")


def rational_image(expr: sp.Expr, generators: Generators) -> sp.Expr:
    """The expression with every non-rational part replaced by generators."""
    reject_floats(expr)
    expr = unrolled(sp.sympify(expr))
    arguments = [function.args[0] for function in expr.atoms(sp.exp, sp.cos, sp.sin, sp.tan)]
    for argument in arguments:
        generators.denominator = sp.lcm(generators.denominator, sp.fraction(sp.together(argument))[1])
    for argument in arguments:
        for term in generators.terms(argument):
            coefficient, rest = term.as_coeff_Mul()
            if coefficient.is_Rational:
                generators.parts[rest] = int(sp.ilcm(generators.parts.get(rest, 1), coefficient.q))
    return _image(expr, generators, _orders(expr))


def unrolled(expr: sp.Expr) -> sp.Expr:
    """Sums and products to n + k as those to n and k more terms; those between given numbers written out."""
    return expr.replace(lambda part: isinstance(part, sp.Sum | sp.Product), _unroll)


def _unroll(part: sp.Expr) -> sp.Expr:
    if len(part.limits) > 1:
        return part
    body, (index, first, last) = part.function, part.limits[0]
    if (last - first).is_Integer:
        return part.doit()
    more, end = last.as_coeff_Add()
    if not more.is_Integer:
        return part
    rest = part.func(body, (index, first, end))
    added = [body.subs(index, end + k) for k in range(min(more, 0) + 1, max(more, 0) + 1)]
    join = sp.Add if isinstance(part, sp.Sum) else sp.Mul
    total = join(*added)
    if more < 0:
        total = -total if join is sp.Add else 1 / total
    return join(rest, total)


def _orders(expr: sp.Expr) -> int:
    """The least common denominator of all numeric exponents: one root order serves the whole expression."""
    denominators = [int(power.exp.q) for power in expr.atoms(sp.Pow) if power.exp.is_Rational]
    return int(sp.ilcm(1, *denominators)) if denominators else 1


def _image(expr: sp.Expr, generators: Generators, order: int) -> sp.Expr:
    if expr.is_Rational or expr.is_Symbol:
        return expr
    if expr is sp.pi or expr is sp.E or isinstance(expr, AppliedUndef | sp.Derivative | sp.Subs):
        return generators.atom(expr)
    if isinstance(expr, sp.exp):
        return _exponential(expr.args[0], generators)
    if isinstance(expr, sp.log):
        return _logarithm(expr.args[0], generators, order)
    if isinstance(expr, sp.cos | sp.sin | sp.tan):
        cosine, sine = _turn(generators.terms(expr.args[0]), generators)
        return {sp.cos: cosine, sp.sin: sine, sp.tan: sine / cosine}[expr.func]
    if isinstance(expr, sp.Abs):
        return _absolute(_image(expr.args[0], generators, order), generators)
    if isinstance(expr, sp.Min | sp.Max):
        return _extreme(expr, generators, order)
    if isinstance(expr, sp.Add | sp.Mul):
        return expr.func(*[_image(arg, generators, order) for arg in expr.args])
    if isinstance(expr, sp.Pow):
        return _power(expr, generators, order)
    if isinstance(expr, sp.Function | sp.Sum | sp.Product | sp.Indexed | sp.Integral):
        return generators.atom(expr)
    raise NotRepresentableError(f"{type(expr).__name__} is outside the decision procedure: {expr}")


def _power(expr: sp.Expr, generators: Generators, order: int) -> sp.Expr:
    base, exponent = expr.as_base_exp()
    if exponent.is_Integer:
        return _image(base, generators, order) ** exponent
    if exponent.is_Rational:
        image = sp.together(_image(base, generators, order))
        return _root_of(image, generators, order) ** (exponent * order)
    whole, rest = exponent.as_independent(*exponent.free_symbols, as_Add=True)
    if not whole.is_Integer:
        whole, rest = sp.Integer(0), exponent
    image = sp.together(_image(base, generators, order))
    return image**whole * _symbolic_power(image, rest, generators)


def _symbolic_power(base: sp.Expr, exponent: sp.Expr, generators: Generators) -> sp.Expr:
    """base**exponent as powers of its irreducible factors, where all of them have a sign."""
    bases, sign = list[tuple[sp.Expr, int]](), sp.Integer(1)
    for part, side in zip(sp.fraction(base), (1, -1), strict=True):
        number, factors = sp.factor_list(part)
        for factor, count in factors:
            bases.append((sp.expand(_sign(factor) * factor), side * count))
            sign *= sp.Integer(_sign(factor)) ** count
        bases += [(abs(number), side)] * (abs(number) != 1)
        sign *= sp.sign(number)
    if sign != 1:
        return generators.atom(base**exponent)
    terms = [term.as_coeff_Mul() for term in sp.Add.make_args(sp.expand(exponent))]
    pairs = [(n, rest) if n.is_Integer else (sp.Integer(1), n * rest) for n, rest in terms]
    return sp.prod(generators.atom(b**rest) ** (n * count) for b, count in bases for n, rest in pairs)


def _root_of(expr: sp.Expr, generators: Generators, order: int) -> sp.Expr:
    """The positive ``order``-th root of a positive rational function, factor by factor."""
    numerator, denominator = sp.fraction(expr)
    return _root_of_polynomial(numerator, generators, order) / _root_of_polynomial(
        denominator, generators, order
    )


def _root_of_polynomial(poly: sp.Expr, generators: Generators, order: int) -> sp.Expr:
    constant, factors = sp.factor_list(poly)
    root, opaque = sp.Integer(1), sp.Integer(1)
    for factor, power in factors:
        if power % order == 0 and (order % 2 == 1 or _sign(factor) == 1 or power % (2 * order) == 0):
            root *= factor ** (power // order)
        elif (sign := _sign(factor)) == 0:
            opaque *= factor**power
        else:
            constant *= sp.Integer(sign) ** power
            root *= generators.root(sign * factor if sign < 0 else factor, order) ** power
    return root * _root_of_constant(sp.Rational(constant), opaque, generators, order)


def _root_of_constant(constant: sp.Rational, opaque: sp.Expr, generators: Generators, order: int) -> sp.Expr:
    """Roots of the rational constant, prime by prime; a factor of unknown sign keeps the constant's sign."""
    root = sp.Integer(1)
    if opaque != 1 or constant < 0:
        opaque, constant = (opaque if constant > 0 else -opaque), abs(constant)
        root *= generators.root(sp.expand(opaque), order)
    powers = [*sp.factorint(constant.p).items(), *((p, -k) for p, k in sp.factorint(constant.q).items())]
    for prime, power in powers:
        quotient, remainder = divmod(power, order)
        root *= sp.Integer(prime) ** quotient
        if remainder:
            root *= generators.root(sp.Integer(prime), order) ** remainder
    return root


def _sign(factor: sp.Expr) -> int:
    """+1 or -1 where the sign of an irreducible factor is known on the whole domain, else 0."""
    from derivations.kit.positive import known_sign

    return known_sign(factor)


def _exponential(argument: sp.Expr, generators: Generators) -> sp.Expr:
    """exp of a sum of rational multiples of terms, as a product of generators exp(term)."""
    image = sp.Integer(1)
    for term in generators.terms(argument):
        coefficient, rest = term.as_coeff_Mul()
        if isinstance(rest, sp.log) and coefficient.is_Integer:
            image *= _image(rest.args[0], generators, 1) ** coefficient
        else:
            count, part = generators.whole(term)
            image *= generators.atom(sp.exp(part)) ** count
    return image


def _turn(angles: tuple[sp.Expr, ...], generators: Generators) -> tuple[sp.Expr, sp.Expr]:
    """Cosine and sine of a sum, by the addition theorem, and of multiples, by Chebyshev polynomials."""
    cosine, sine = sp.Integer(1), sp.Integer(0)
    for angle in angles:
        count, part = generators.whole(angle)
        c, s = generators.angle(part)
        many = sp.chebyshevt(abs(count), c), sp.sign(count) * s * sp.chebyshevu(abs(count) - 1, c)
        cosine, sine = cosine * many[0] - sine * many[1], sine * many[0] + cosine * many[1]
    return cosine, sine


def _absolute(image: sp.Expr, generators: Generators) -> sp.Expr:
    """|f| factor by factor: the factor with its known sign, or the positive root of its square."""
    total = sp.Integer(1)
    for part, power in zip(sp.fraction(sp.together(image)), (1, -1), strict=True):
        constant, factors = sp.factor_list(part)
        total *= abs(constant) ** power
        for factor, count in factors:
            sign = _sign(factor)
            size = sign * factor if sign else generators.root(sp.expand(factor**2), 2)
            total *= size ** (count * power)
    return total


def _extreme(expr: sp.Expr, generators: Generators, order: int) -> sp.Expr:
    """A minimum or maximum, two arguments at a time, through the absolute value of their difference."""
    sign = -1 if isinstance(expr, sp.Min) else 1
    first, *others = (_image(arg, generators, order) for arg in expr.args)
    for other in others:
        first = (first + other + sign * _absolute(first - other, generators)) / 2
    return first


def _logarithm(argument: sp.Expr, generators: Generators, order: int) -> sp.Expr:
    """log of a product as the sum of logs of its irreducible factors."""
    inner = Generators()
    image = sp.together(sp.powsimp(_image(argument, inner, _orders(argument))))
    if inner.roots or inner.free:
        return _logarithm_of_powers(argument, generators, order)
    numerator, denominator = sp.fraction(image)
    return _log_of_polynomial(numerator, generators) - _log_of_polynomial(denominator, generators)


def _logarithm_of_powers(argument: sp.Expr, generators: Generators, order: int) -> sp.Expr:
    """log of a product with roots, exponentials or constants such as π in it."""
    total = sp.Integer(0)
    for factor in sp.Mul.make_args(argument):
        base, exponent = factor.as_base_exp()
        if isinstance(factor, sp.exp):
            total += _image(factor.args[0], generators, order)
        elif factor is sp.E:
            total += 1
        elif exponent != 1 and exponent.is_Rational and base.is_positive is not False:
            total += exponent * _logarithm(base, generators, order)
        elif base.is_Symbol or base.is_Number or not isinstance(base, sp.Mul | sp.Pow):
            inner = Generators()
            _image(base, inner, _orders(base))
            total += (
                generators.atom(sp.log(factor))
                if inner.roots or inner.free
                else _logarithm(factor, generators, order)
            )
        else:
            total += generators.atom(sp.log(factor))
    return total


def _log_of_polynomial(poly: sp.Expr, generators: Generators) -> sp.Expr:
    constant, factors = sp.factor_list(poly)
    total, opaque = sp.Integer(0), sp.Integer(1)
    for factor, power in factors:
        sign = _sign(factor)
        if sign == 0:
            opaque *= factor**power
        else:
            constant *= sp.Integer(sign) ** power
            total += power * generators.atom(sp.log(sign * factor if sign > 0 else sp.expand(-factor)))
    constant = sp.Rational(constant)
    if opaque != 1 or constant < 0:
        opaque, constant = (opaque if constant > 0 else -opaque), abs(constant)
        total += generators.atom(sp.log(sp.expand(opaque)))
    for prime, power in sp.factorint(constant.p).items():
        total += power * generators.atom(sp.log(sp.Integer(prime)))
    for prime, power in sp.factorint(constant.q).items():
        total -= power * generators.atom(sp.log(sp.Integer(prime)))
    return total
