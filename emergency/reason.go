package emergency

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Reason is one of the reasons that the form offers.
type Reason struct{ Code, Text string }

// The reasons. Codes stand in records and logs for years: add, never change.
var reasons = []Reason{
	{"life", "Danger to life or health"},
	{"unconscious", "The patient cannot answer or consent"},
	{"on-call", "On call, or in place of a colleague"},
	{"referral", "Referral or transfer that is not entered yet"},
	{"consult", "A colleague asked for advice"},
	{"other", "Another reason"},
}

// ReasonDrill is the code of an access that is for practice. It opens the record as any other does, and is alarmed and reviewed as any
// other is: whoever calls it a drill is not less watched for that. Where the rule does not offer drills it is no reason.
const ReasonDrill = "drill"

var drill = Reason{ReasonDrill, "This is a drill"}

// Reasons returns what a form offers, in its order; where the rule offers drills these are last.
func Reasons(drills bool) []Reason {
	if drills {
		return append(slices.Clone(reasons), drill)
	}
	return slices.Clone(reasons)
}

// ReasonText is the text of a code, or "".
func ReasonText(code string) string {
	for _, r := range Reasons(true) {
		if r.Code == code {
			return r.Text
		}
	}
	return ""
}

// Length of a reason's text, in characters.
const (
	MinReason = 10
	MaxReason = 500
)

// CheckReason returns the text as it is kept, or an error that matches ErrReason: the code is none of Reasons, or the text
// has fewer than MinReason or more than MaxReason characters. Blanks and line ends become single blanks.
func CheckReason(code, text string) (string, error) {
	if ReasonText(code) == "" {
		return "", fmt.Errorf("%w: choose one of the list", ErrReason)
	}
	text, n := oneLine(text)
	switch {
	case n < MinReason || letters(text) < MinReason/2:
		return "", fmt.Errorf("%w: write at least %d characters", ErrReason, MinReason)
	case n > MaxReason:
		return "", fmt.Errorf("%w: write at most %d characters", ErrReason, MaxReason)
	}
	return text, nil
}

// oneLine makes one line of what somebody wrote: nothing that acts on a terminal, turns the direction of text or hides in
// it. It returns how many characters are left.
func oneLine(text string) (string, int) {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	return text, utf8.RuneCountInString(text)
}

// letters counts letters and digits: ten dots are no reason.
func letters(text string) (n int) {
	for _, r := range text {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			n++
		}
	}
	return n
}
