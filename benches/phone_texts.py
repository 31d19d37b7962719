"""Phone texts read by the gateway and by `phonenumbers`, the port of libphonenumber that most Python services use.

Every text is made here, the same at every run: the example numbers of all regions with other last digits, in many
formats, and mutations of them. Both sides read each text; where they differ, an explanation has to fit, or the
comparison fails. See README.md beside this file.

Usage: phone_texts.py READER      (READER reads `written<TAB>country<TAB>JSON string` a line, see phone_texts.rs)
"""

import json
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType, ValidationResult

SEED = 20261128
NUMBERS_PER_EXAMPLE = 3

INVISIBLE = "\u200b\u200e\u200f\u202a\u202c\u2066\u2069\ufeff\u00ad\u2060"
SCRIPTS = ["\u0660", "\u06f0", "\u0966", "\u09e6", "\u0e50", "\uff10", "\U0001d7ce"]
KNOWN_LABELS = [" x", "x", " ext. ", " ext ", " extension ", " #", ";ext=", " int. ", " anexo ", " доб. "]
OWN_LABELS = [" DW ", " Durchwahl ", " poste ", " ramal ", " wew. ", " interno ", " xtn "]
NO_LABELS = [" Fax", " ext.", " Ada", " (mobile)", " FLOWERS", " home", " ABC", "d", " oder", " DW"]
OTHER_SIGNS = ["*", "?", "_", ":", "&", "|", "!", "\"", "=", "\u20ac", "\u00b2", "\U0001f642"]


def examples():
    """Every example number of libphonenumber with its region, and numbers of the same length beside it."""
    chance = random.Random(SEED)
    found = []
    # Ascension and Tristan da Cunha have no country code of their own in ISO 3166-1.
    for region in sorted(phonenumbers.SUPPORTED_REGIONS - {"AC", "TA"}):
        for kind in sorted(PhoneNumberType.values()):
            example = phonenumbers.example_number_for_type(region, kind)
            if example:
                found.append((region, example))
    for code in sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS):
        example = phonenumbers.example_number_for_non_geo_entity(code)
        if example:
            found.append(("", example))
    for region, example in found:
        yield region, example
        digits = phonenumbers.national_significant_number(example)
        for _ in range(NUMBERS_PER_EXAMPLE):
            changed = digits[:-4] + "".join(chance.choice("0123456789") for _ in digits[-4:])
            yield region, phonenumbers.parse(f"+{example.country_code}{changed}")


def texts(chance, region, number):
    """Texts of one number: (kind, written, region, text)."""
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    spaced = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    code, significant = str(number.country_code), phonenumbers.national_significant_number(number)
    for text in (e164, spaced):
        yield "as it is", "plus", "", text
        yield "as it is", "calling_code", region, text
        yield "as it is", "caller", "", text
    yield "as it is", "calling_code", "", e164[1:]
    yield "as it is", "caller", "", e164[1:]
    yield "as it is", "plus", "", phonenumbers.format_number(number, PhoneNumberFormat.RFC3966)
    if region:
        yield "as it is", "plus", region, national
        yield "as it is", "caller", region, national
        yield "as it is", "plus", region, e164[1:]
    yield "double zero", "plus", "", "00" + e164[1:]
    yield "double zero", "caller", "", "00" + e164[1:]
    for separator in ".-\u2011\u2013\u00a0\u202f/":
        yield "separators", "plus", "", re.sub(r"[ -]", separator, spaced)
    yield "brackets", "plus", "", f"+{code} ({significant[:3]}) {significant[3:]}"
    yield "brackets", "plus", "", f"(+{code}) {significant}"
    yield "odd brackets", "plus", "", f"+{code} ({significant[:3]} {significant[3:]}"
    yield "odd brackets", "plus", "", f"+{code} {significant[:-2]} ({significant[-2:]})"
    for zero in ("(0)", "[0]", "(0"):
        tail = significant if zero != "(0" else f"{significant[:2]}){significant[2:]}"
        yield "bracketed zero", "plus", "", f"+{code} {zero}{tail}"
    place = chance.randrange(1, len(e164))
    noise = "".join(chance.choice(INVISIBLE) for _ in range(2))
    for where in (0, place, len(e164)):
        yield "invisible", "plus", "", e164[:where] + noise + e164[where:]
    zero = ord(chance.choice(SCRIPTS))
    yield "script", "plus", "", "+" + "".join(chr(zero + int(digit)) for digit in e164[1:])
    yield "script", "caller", "", "".join(chr(zero + int(digit)) for digit in e164[1:])
    extension = str(chance.randrange(1, 10 ** chance.randrange(1, 8)))
    yield "extension", "plus", "", spaced + chance.choice(KNOWN_LABELS) + extension
    yield "extension", "caller", "", spaced + chance.choice(KNOWN_LABELS) + extension
    yield "own label", "plus", "", spaced + chance.choice(OWN_LABELS) + extension
    yield "long extension", "plus", "", spaced + chance.choice([" x", " ext. "]) + f"{extension}12345678"
    yield "no label", "plus", "", spaced + chance.choice([",,", ";", "~", ","]) + extension
    yield "letters", "plus", "", spaced + chance.choice(NO_LABELS)
    yield "letters", "caller", "", spaced + chance.choice(NO_LABELS)
    letter = chance.choice("ABCdefgOIl")
    yield "letters", "plus", "", e164[:place] + letter + e164[place:]
    yield "letters", "calling_code", "", e164[1:place] + letter + e164[place + 1 :]
    sign = chance.choice(OTHER_SIGNS)
    yield "signs", "plus", "", e164[:place] + sign + e164[place:]
    for between in (" / ", ";", ", ", " ", "\n"):
        yield "two numbers", "plus", "", spaced + between + spaced
    yield "two numbers", "caller", region, national + chance.choice([" / ", " "]) + national
    yield "two numbers", "plus", "", f"{spaced}/{significant[-2:]}"
    yield "truncated", "plus", "", e164[: chance.randrange(1, len(e164))]
    yield "truncated", "calling_code", "", e164[1 : chance.randrange(2, len(e164))]
    yield "truncated", "caller", region, e164[1 : chance.randrange(2, len(e164))]
    yield "random", "plus", "", "+" + str(chance.randrange(10 ** chance.randrange(3, 19)))
    yield "random", "caller", region, str(chance.randrange(10 ** chance.randrange(3, 19)))
    yield "random", "plus", region, str(chance.randrange(10 ** chance.randrange(3, 19)))
    yield "spreadsheet", "caller", "", e164[1:] + chance.choice([".0", ".00", ",00"])
    yield "spreadsheet", "caller", region, f"{int(e164[1:]):.3E}"
    day = f"{chance.randrange(1, 29):02}", f"{chance.randrange(1, 13):02}", str(chance.randrange(1950, 2030))
    separator = chance.choice("-./")
    yield "date", "caller", region, separator.join(chance.choice([day, day[::-1]]))


def parse(text, region=None):
    """A possible number, or none."""
    try:
        number = phonenumbers.parse(text, region or None)
    except NumberParseException:
        return None
    possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    return number if possible else None


def show(number):
    if number is None:
        return "-"
    extension = f";ext={number.extension}" if number.extension else ""
    return phonenumbers.format_number(number, PhoneNumberFormat.E164) + extension


def theirs(written, region, text):
    """What a service reads that leaves the whole text to phonenumbers."""
    has_plus = re.match(r"\W*[+\uff0b]", text) is not None
    if written == "plus":
        number = parse(text, region)
        needed_region = number is not None and not has_plus and not text.startswith("tel:")
        return show(number if not needed_region or phonenumbers.is_valid_number(number) else None)
    if written == "calling_code":
        return show(parse(text if has_plus else "+" + text.strip()))
    number = parse(text, region) or (None if has_plus else parse("+" + text.strip()))
    return show(number).split(";")[0]


def ours_of_caller(clean, region):
    """The number that is meant by what is sent for a caller's text."""
    if clean == "-":
        return "-"
    number = parse(clean, region) or parse(clean if clean.startswith("+") else "+" + clean.removeprefix("00"))
    return show(number)


REFUSED = lambda ours, theirs, text, number: ours == "-"
# The text was made of this number, and that is what the gateway reads.
READ = lambda ours, theirs, text, number: ours.split(";")[0] == number


def digits_of(answer):
    return len(re.sub(r";.*|\D", "", answer))


def are_short(ours, theirs, text):
    """Two short national numbers without a plus sign, as many digits as one number has."""
    return ours == theirs and "+" not in text and digits_of(text) <= 14


# (kinds of text or None for all, what must be true of the two answers, the explanation)
EXPLANATIONS = [
    ({"letters"}, REFUSED,
     "Letters are never dialled; phonenumbers drops them at the end and converts three or more to keypad digits."),
    ({"two numbers"}, REFUSED,
     "A text of two numbers is no number; phonenumbers takes the first or puts the digits of both together."),
    ({"signs"}, REFUSED,
     "A sign that is no separator makes the text no number; phonenumbers cuts the text there or skips the sign."),
    ({"no label"}, REFUSED,
     "An extension needs a label; phonenumbers takes what follows a comma, a semicolon or a tilde for one."),
    ({"long extension"}, REFUSED,
     "More than seven digits behind a label may be a second number; phonenumbers takes up to twenty for an extension."),
    ({"own label"}, READ,
     "Labels in more languages than phonenumbers knows mark an extension; it drops or dials them."),
    ({"odd brackets"}, REFUSED,
     "Brackets that are not in pairs, or that hold the last digits alone, make the text no number."),
    ({"bracketed zero"}, READ,
     "A bracketed zero is dropped unless the number is valid with it; phonenumbers keeps it where the country has no trunk prefix."),
    ({"double zero"}, READ,
     "Two zeros in front stand for the plus sign; phonenumbers reads them with a country only."),
    ({"spreadsheet", "date"}, REFUSED,
     "Exponents, decimals and dates are no numbers; phonenumbers skips their separators."),
    ({"separators"}, lambda ours, theirs, text, number: ours == "-" and text.count("/") > 1,
     "A slash behind more than an area code, or before less than four digits, may begin a second number."),
    ({"separators"}, READ,
     "Blanks of all kinds separate; phonenumbers does not know the narrow one."),
    ({"invisible", "script"}, READ,
     "Invisible characters are removed and digits of all scripts are read before anything else."),
    (None, lambda ours, theirs, text, number: ours == "-" and digits_of(theirs) > 15,
     "A number has at most 15 digits (ITU-T E.164); phonenumbers allows more for some countries."),
]


# Kinds of text that are no number, whatever phonenumbers says.
NEVER = {"letters", "two numbers", "signs", "no label", "long extension", "odd brackets", "spreadsheet", "date"}


def main():
    reader = sys.argv[1]
    chance = random.Random(SEED + 1)
    made = {}
    for region, number in examples():
        for case in texts(chance, region, number):
            made.setdefault(case, phonenumbers.format_number(number, PhoneNumberFormat.E164))
    cases = list(made)
    lines = "".join(f"{written}\t{region}\t{json.dumps(text)}\n" for _, written, region, text in cases)
    answers = subprocess.run([reader], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(answers) == len(cases) >= 10_000, (len(answers), len(cases))
    kinds = Counter(kind for kind, *_ in cases)
    same, explained, unexplained, short = Counter(), defaultdict(list), [], 0
    for (kind, written, region, text), answer in zip(cases, answers):
        ours = ours_of_caller(answer, region) if written == "caller" else answer
        their = theirs(written, region, text)
        if kind == "two numbers" and ours != "-" and are_short(ours, their, text):
            short += 1
        elif kind in NEVER and ours != "-":
            unexplained.append((kind, written, region, text, ours, their))
            continue
        if ours == their:
            same[kind] += 1
            continue
        for kinds_of, fits, why in EXPLANATIONS:
            if (kinds_of is None or kind in kinds_of) and fits(ours, their, text, made[kind, written, region, text]):
                explained[why].append((kind, written, region, text, ours, their))
                break
        else:
            unexplained.append((kind, written, region, text, ours, their))
    print(f"{len(cases)} texts, phonenumbers {phonenumbers.__version__}\n")
    print(f"{'kind of text':<16} {'texts':>7} {'same':>7}")
    for kind, count in kinds.items():
        print(f"{kind:<16} {count:>7} {same[kind]:>7}")
    print(f"\n{short} texts of two short numbers have the digits of one number: both sides read one.")
    print("\nDifferences with their explanations, and one of each:")
    for why, found in sorted(explained.items(), key=lambda item: -len(item[1])):
        print(f"{len(found):>7}  {why}")
        print(f"         {shown(chance.choice(found))}")
    print(f"\nDifferences without an explanation: {len(unexplained)}")
    for difference in chance.sample(unexplained, min(60, len(unexplained))):
        print(f"         {difference[0]}: {shown(difference)}")
    return 1 if unexplained else 0


def shown(difference):
    _, written, region, text, ours, their = difference
    return f"{json.dumps(text)} ({written}{', ' + region if region else ''}): {ours}, phonenumbers {their}"


if __name__ == "__main__":
    sys.exit(main())
