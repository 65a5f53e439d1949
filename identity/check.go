package identity

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of [Identity.Check], in bytes or elements. They leave room for the
// session's cookie of 4 KiB, which has the last word on the whole.
const (
	maxText    = 255  // subject (OpenID Connect Core 1.0, section 2), username, org, acr, session
	maxName    = 512  // display names are the longest thing that people really have
	maxEmail   = 320  // RFC 5321: 64 + "@" + 255
	maxIssuer  = 1024 // a URL
	maxRoles   = 256
	maxMethods = 32 // amr members
	maxWord    = 64 // a role, a source name, an amr member
)

// Check is nil when i may become a session. Otherwise it is a [Failure] of
// kind [ErrRefused] whose reason names the field, e.g. "identity.username".
func (i Identity) Check() error {
	checks := []struct {
		field string
		err   error
	}{
		{"source", checkSource(i.Source)},
		{"issuer", checkText(i.Issuer, 0, maxIssuer)},
		{"subject", checkText(i.Subject, 1, maxText)},
		{"username", checkUsername(i.Username)},
		{"name", checkHeader(i.Name, maxName)},
		{"email", checkHeader(i.Email, maxEmail)},
		{"roles", checkRoles(i.Roles)},
		{"groups", checkGroups(i.Groups)},
		{"claims", checkClaims(i.Claims)},
		{"org", checkText(i.Org, 0, maxText)},
		{"acr", checkText(i.ACR, 0, maxText)},
		{"amr", checkMethods(i.AMR)},
		{"session", checkText(i.Session, 0, maxText)},
	}
	for _, c := range checks {
		if c.err != nil {
			return &Failure{Kind: ErrRefused, Reason: "identity." + c.field, Err: c.err}
		}
	}
	return nil
}

// ValidRole says whether name keeps to the role grammar [A-Za-z0-9._-]{1,64}.
// A role outside it could end a header's list early or start a second one.
func ValidRole(name string) bool { return validWord(name) }

// ValidSource says whether name can be a source's name. The name is a segment
// of URLs below the portal's prefix, so that "." and ".." are none.
func ValidSource(name string) bool {
	return validWord(name) && name != "." && name != ".."
}

func validWord(s string) bool {
	if len(s) == 0 || len(s) > maxWord {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

func checkSource(s string) error {
	if !ValidSource(s) {
		return fmt.Errorf("checking source name: not [A-Za-z0-9._-]{1,%d}", maxWord)
	}
	return nil
}

// checkText never quotes s: it is what somebody outside chose.
func checkText(s string, least, most int) error {
	switch {
	case len(s) < least:
		return fmt.Errorf("checking text: empty")
	case len(s) > most:
		return fmt.Errorf("checking text: %d bytes, at most %d", len(s), most)
	case !utf8.ValidString(s):
		return fmt.Errorf("checking text: not UTF-8")
	}
	for _, r := range s {
		if breaksLines(r) {
			return fmt.Errorf("checking text: character %U", r)
		}
	}
	return nil
}

// breaksLines reports what would end a header or a log line for one reader or
// another (CR, LF, NUL, all of C0 and C1, U+2028, U+2029), and the overrides of
// writing direction, with which one name is shown as another.
func breaksLines(r rune) bool {
	switch {
	case unicode.IsControl(r), r == 0x2028, r == 0x2029:
		return true
	case 0x202A <= r && r <= 0x202E, 0x2066 <= r && r <= 0x2069:
		return true
	}
	return false
}

// checkUsername is stricter than checkText, because a username decides:
// policy compares it, apps take it from a header. A header parser trims blanks
// at the ends, so that " admin" would arrive as "admin"; characters without
// a shape of their own make two different users look alike in every log.
func checkUsername(s string) error {
	if err := checkText(s, 1, maxText); err != nil {
		return err
	}
	for _, r := range s {
		if unicode.Is(unicode.Cf, r) {
			return fmt.Errorf("checking username: invisible character %U", r)
		}
	}
	return checkHeader(s, maxText)
}

// checkHeader is for text that becomes a header of its own, whose reader cuts
// white space off both ends (RFC 9110, section 5.5): the gate sends only what
// arrives as it was.
func checkHeader(s string, most int) error {
	if err := checkText(s, 0, most); err != nil {
		return err
	}
	if strings.TrimSpace(s) != s {
		return fmt.Errorf("checking text: white space at an end")
	}
	return nil
}

func checkRoles(roles []string) error {
	if len(roles) > maxRoles {
		return fmt.Errorf("checking roles: %d of them, at most %d", len(roles), maxRoles)
	}
	for n, role := range roles {
		if !ValidRole(role) {
			return fmt.Errorf("checking roles: number %d is not [A-Za-z0-9._-]{1,%d}", n+1, maxWord)
		}
	}
	return nil
}

func checkMethods(amr []string) error {
	if len(amr) > maxMethods {
		return fmt.Errorf("checking methods: %d of them, at most %d", len(amr), maxMethods)
	}
	for _, m := range amr {
		if err := checkText(m, 1, maxWord); err != nil {
			return err
		}
	}
	return nil
}
