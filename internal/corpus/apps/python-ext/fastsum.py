import sys

import _fastsum


def total(numbers):
    return _fastsum.total(list(numbers))


def main():
    print(total(float(word) for word in sys.argv[1:]))
