package caddymodule

import (
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/spf13/cobra"
)

// askedFlags say who asks, from where and when. Each is a word of `expect`, and is read as one: the flags have no grammar of their own.
type askedFlags struct {
	as, from, at, acr, org, idp, device, patient, age string
	amr, group, scope, claim                          []string
}

func (f *askedFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.as, "as", "anonymous", "who asks, in the words of `expect`: anonymous, any (signed in, no role), ROLE[,ROLE][:USER], user:NAME, or \"role doctor group ward3\"; what follows it there can stand here, too")
	c.Flags().StringVar(&f.from, "from", "", "the address that the request comes from")
	c.Flags().StringVar(&f.at, "at", "", "when, as \"2026-11-23T08:00 Europe/Brussels\" or RFC 3339 (default: now)")
	c.Flags().StringVar(&f.acr, "acr", "", "the level of the sign-in")
	c.Flags().StringSliceVar(&f.amr, "amr", nil, "its methods, comma-separated")
	c.Flags().StringVar(&f.age, "age", "", "how long ago it was, such as 10m (default: just now)")
	c.Flags().StringSliceVar(&f.group, "group", nil, "the person's groups, comma-separated")
	c.Flags().StringVar(&f.org, "org", "", "the person's organisation")
	c.Flags().StringVar(&f.idp, "idp", "", "the way to sign in")
	c.Flags().StringVar(&f.device, "device", "", "`known` when the account signed in with this browser before")
	c.Flags().StringArrayVar(&f.claim, "claim", nil, "a claim as NAME=VALUE; may be repeated")
	c.Flags().StringSliceVar(&f.scope, "scope", nil, "the scopes of an access token, comma-separated; it comes instead of a session")
	c.Flags().StringVar(&f.patient, "patient", "", "the patient of the access token")
}

// words are the flags as a line of `expect` has them.
func (f *askedFlags) words() []string {
	words := strings.Fields(f.as)
	add := func(word, value string) {
		if value != "" {
			words = append(words, word, value)
		}
	}
	for _, o := range []struct{ word, value string }{
		{"from", f.from}, {"at", f.at}, {"acr", f.acr}, {"amr", strings.Join(f.amr, ",")}, {"age", f.age}, {"group", strings.Join(f.group, ",")}, {"org", f.org},
		{"idp", f.idp}, {"device", f.device}, {"scope", strings.Join(f.scope, ",")}, {"patient", f.patient},
	} {
		add(o.word, o.value)
	}
	for _, claim := range f.claim {
		name, value, _ := strings.Cut(claim, "=")
		words = append(words, "claim."+name, value)
	}
	return words
}

// asker reads them.
func (f *askedFlags) asker() (*policy.Expectation, error) {
	return policy.ParseAsker(policy.Line{Words: f.words()})
}

// person is who it is, in words.
func person(who *policy.Subject) string {
	if who == nil {
		return "somebody who is not signed in"
	}
	text := "somebody who is signed in and has no role"
	switch {
	case len(who.Roles) > 0 && who.Username != "":
		text = who.Username + " as " + strings.Join(who.Roles, ", ")
	case len(who.Roles) > 0:
		text = "somebody as " + strings.Join(who.Roles, ", ")
	case who.Username != "":
		text = who.Username
	}
	if who.Bearer {
		text += ", by an access token"
	}
	return text
}
