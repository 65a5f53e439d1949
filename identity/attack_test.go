package identity

import (
	"errors"
	"strings"
	"testing"
)

// Requirement 40 of the attack tables: claim values never carry header, log or
// path syntax to the app.
func TestR40ClaimInjection(t *testing.T) {
	cases := []struct{ name, value string }{
		{"R40 CR LF and a header", "a\r\nX-Role: admin"},
		{"R40 bare LF", "a\nb"},
		{"R40 bare CR", "a\rb"},
		{"R40 NUL", "a\x00b"},
		{"R40 C1 next line", "a\u0085b"},
		{"R40 line separator", "a\u2028b"},
		{"R40 paragraph separator", "a\u2029b"},
		{"R40 right-to-left override", "a\u202eb"},
		{"R40 isolate", "a\u2066b"},
		{"R40 overlong UTF-8", "a\xc0\xafb"},
		{"R40 surrogate", "a\xed\xa0\x80b"},
	}
	fields := map[string]func(*Identity, string){
		"subject":  func(i *Identity, s string) { i.Subject = s },
		"username": func(i *Identity, s string) { i.Username = s },
		"name":     func(i *Identity, s string) { i.Name = s },
		"email":    func(i *Identity, s string) { i.Email = s },
		"org":      func(i *Identity, s string) { i.Org = s },
		"acr":      func(i *Identity, s string) { i.ACR = s },
		"amr":      func(i *Identity, s string) { i.AMR = []string{s} },
		"roles":    func(i *Identity, s string) { i.Roles = []string{s} },
	}
	for _, c := range cases {
		for field, set := range fields {
			t.Run(c.name+" in "+field, func(t *testing.T) {
				i := good()
				set(&i, c.value)
				err := i.Check()
				if !errors.Is(err, ErrRefused) || Reason(err) != "identity."+field {
					t.Fatalf("Check = %v, want refused with identity.%s", err, field)
				}
				if strings.Contains(err.Error(), c.value) {
					t.Fatalf("the error repeats what came from outside: %q", err)
				}
			})
		}
	}
}

// Row J46: values that look like another value match nothing.
func TestJ46LookAlikes(t *testing.T) {
	for name, role := range map[string]string{
		"full width":     "ＤＯＣＴＯＲ",
		"Cyrillic o":     "d\u043ector",
		"joiner":         "doc\u200dtor",
		"trailing blank": "doctor ",
		"trailing NUL":   "doctor\x00",
	} {
		t.Run("J46 role "+name, func(t *testing.T) {
			if ValidRole(role) {
				t.Fatal("taken for a role")
			}
		})
	}
	for name, user := range map[string]string{
		"leading blank":      " admin",
		"trailing tab":       "admin\t",
		"no-break space":     "admin\u00a0",
		"ideographic space":  "\u3000admin",
		"zero-width space":   "ad\u200bmin",
		"zero-width joiner":  "ad\u200dmin",
		"soft hyphen":        "ad\u00admin",
		"byte order mark":    "\ufeffadmin",
		"only blanks":        "   ",
		"left-to-right mark": "admin\u200e",
	} {
		t.Run("J46 username "+name, func(t *testing.T) {
			i := good()
			i.Username = user
			if err := i.Check(); Reason(err) != "identity.username" {
				t.Fatalf("Check = %v, want identity.username", err)
			}
		})
	}
}

// Sent: a display name or an address with white space at an end, as directories
// have them. What would happen: the sign-in succeeds, and every request of the
// session is answered 503, because the gate sends no header whose reader would
// change it. What must hold: Check says no, so that the source mends it before.
func TestR40WhiteSpaceAtTheEnds(t *testing.T) {
	for _, value := range []string{" Ada", "Ada ", "Ada\u00a0", "\u3000Ada", " "} {
		for field, set := range map[string]func(*Identity, string){
			"name":  func(i *Identity, s string) { i.Name = s },
			"email": func(i *Identity, s string) { i.Email = s },
		} {
			i := good()
			set(&i, value)
			if err := i.Check(); Reason(err) != "identity."+field {
				t.Errorf("%s %q: Check = %v, want identity.%s", field, value, err, field)
			}
		}
	}
}
