package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of what an installation takes over of a source's claims. A session is a
// cookie of 4 KiB that goes with every request: it holds what rules need.
const (
	MaxClaims    = 8
	maxGroups    = 64
	maxClaimName = 32
)

// ValidGroup says whether name can be a group's: the grammar of roles.
func ValidGroup(name string) bool { return validWord(name) }

// ValidClaim says whether name can be the name of a claim in rules,
// [a-z][a-z0-9_]{0,31}. It is the installation's name and not the source's.
func ValidClaim(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (i == 0 || (c < '0' || c > '9') && c != '_') {
			return false
		}
	}
	return name != "" && len(name) <= maxClaimName
}

var (
	errClaimType   = errors.New("reading claim: not a text, a number, true or false")
	errClaimNumber = errors.New("reading claim: a number of too many digits")
	errClaimText   = errors.New("reading claim: damaged text")
)

// ClaimText is a JSON value as rules compare it: a text as it is, a number in decimal
// digits, exactly and in one spelling (1e21 and 1000000000000000000000 are one), true
// and false as these words. Absent, null and the empty text are "". Everything else,
// lists and objects above all, is an error, and so is what [Identity.Check] would
// refuse: guessing what was meant is how a list becomes somebody's record. The error
// does not hold the value.
func ClaimText(raw []byte) (string, error) {
	raw = bytes.Trim(raw, " \t\r\n")
	var text string
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return "", nil
	case string(raw) == "true" || string(raw) == "false":
		return string(raw), nil
	case !json.Valid(raw):
		return "", errClaimType
	case raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9':
		var ok bool
		if text, ok = decimal(string(raw)); !ok {
			return "", errClaimNumber
		}
	case raw[0] != '"':
		return "", errClaimType
	case json.Unmarshal(raw, &text) != nil, !utf8.Valid(raw), strings.ContainsRune(text, utf8.RuneError):
		// What is put in the place of a lone surrogate would make one text of two.
		return "", errClaimText
	}
	return text, checkText(text, 0, maxText)
}

// decimal writes a JSON number without exponent, without zeros that say nothing.
func decimal(number string) (string, bool) {
	sign := ""
	if number[0] == '-' {
		sign, number = "-", number[1:]
	}
	mantissa, exponent := number, 0
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(number[i+1:]); err != nil {
			return "", false
		}
		mantissa = number[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0", true
	}
	// Where the point stands, counted from the first digit. Bounded before anything is
	// written: 1e999999999 is short.
	if exponent > maxText || exponent < -maxText || len(mantissa) > 2*maxText {
		return "", false
	}
	point := len(digits) - len(fraction) + exponent
	digits = strings.TrimRight(digits, "0")
	switch {
	case point <= 0:
		return sign + "0." + strings.Repeat("0", -point) + digits, true
	case point >= len(digits):
		return sign + digits + strings.Repeat("0", point-len(digits)), true
	}
	return sign + digits[:point] + "." + digits[point:], true
}

func checkGroups(groups []string) error {
	if len(groups) > maxGroups {
		return errors.New("checking groups: " + strconv.Itoa(len(groups)) + " of them, at most " + strconv.Itoa(maxGroups))
	}
	return checkRoles(groups)
}

// checkClaims never quotes a value: most are about one person.
func checkClaims(claims map[string]string) error {
	if len(claims) > MaxClaims {
		return errors.New("checking claims: " + strconv.Itoa(len(claims)) + " of them, at most " + strconv.Itoa(MaxClaims))
	}
	for name, text := range claims {
		if !ValidClaim(name) {
			return errors.New("checking claims: a name is not [a-z][a-z0-9_]{0,31}")
		}
		if err := checkText(text, 1, maxText); err != nil {
			return err
		}
	}
	return nil
}
