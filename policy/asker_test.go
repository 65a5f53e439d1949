package policy

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestAsker: who asks is read in one way, with the short words of expectations and with those of rules.
func TestAsker(t *testing.T) {
	for _, same := range [][]string{
		{"doctor", "role doctor"}, {"doctor,nurse:ann", "role doctor,nurse user ann", "user ann role doctor,nurse"}, {"user:ann", "user ann", "any user ann"},
		{"any group ward3 org north", "group ward3 org north", "org north group ward3"}, {"any idp clinic device known", "idp clinic device known", "device known idp clinic"},
		{"any scope a/b.rs,c patient 7", "scope a/b.rs,c patient 7", "patient 7 scope a/b.rs,c"}, {"any claim.dept icu", "claim.dept icu"}, {"doctor acr mfa age 10m from 10.1.2.3", "role doctor from 10.1.2.3 age 10m acr mfa"},
		{"doctor at 2026-11-23T08:00 Europe/Brussels", "doctor at 2026-11-23 08:00 Europe/Brussels", "doctor at `2026-11-23 08:00 Europe/Brussels`", "doctor at `2026-11-23T08:00:00 Europe/Brussels`", "doctor at 2026-11-23T08:00:00 Europe/Brussels"},
		// Roles that are called as the words are.
		{"user", "role user"}, {"patient", "role patient"}, {"group from 10.1.2.3", "role group from 10.1.2.3"}, {"patient:ann", "role patient user ann"},
	} {
		var first *Expectation
		for _, text := range same {
			e, err := ParseAsker(Line{Words: splitWords(text)})
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			e.Words = ""
			if first == nil {
				first = e
			} else if !reflect.DeepEqual(first, e) {
				t.Errorf("%s: %+v %+v, and %s: %+v", text, e, e.Who, same[0], first)
			}
			with, err := ParseExpectation(Line{Words: append(append([]string{"expect"}, splitWords(text)...), "GET", "/x", "deny")})
			if err != nil {
				t.Errorf("expect %s: %v", text, err)
			} else if !reflect.DeepEqual(with.Who, e.Who) || !with.Time.Equal(e.Time) || with.Addr != e.Addr {
				t.Errorf("expect %s is about somebody else", text)
			}
		}
	}
	e, err := ParseAsker(Line{Words: splitWords("doctor age 10m at 2026-11-23T08:00:00Z")})
	if who := e.Person(e.Time); err != nil || who.Username != "" || !who.AuthTime.Equal(time.Date(2026, 11, 23, 7, 50, 0, 0, time.UTC)) {
		t.Errorf("%v %+v", err, who)
	}
	for text, want := range map[string]string{"doctor GET": "nothing that comes with a request", "": "cannot be a role", "anonymous acr mfa": "nobody is signed in", "public": "`anonymous`", "doctor acr": "nothing after `acr`"} {
		if _, err := ParseAsker(Line{Words: strings.Fields(text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if e, err := ParseAsker(Line{Words: []string{"anonymous", "from", "10.0.0.1"}}); err != nil || e.Person(time.Now()) != nil {
		t.Errorf("%v %+v", err, e)
	}
}
