package caddymodule

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/spf13/cobra"
)

// askedFlags say who asks, from where and when, in the words of `expect`.
type askedFlags struct {
	as, from, at, acr, org, idp, device, patient string
	amr, group, scope, claim                     []string
	age                                          time.Duration
}

func (f *askedFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.as, "as", "anonymous", "who asks: anonymous, any (signed in, no role), ROLE[,ROLE][:USER], or user:NAME")
	c.Flags().StringVar(&f.from, "from", "", "the address that the request comes from")
	c.Flags().StringVar(&f.at, "at", "", "when, as \"2026-11-23T08:00 Europe/Brussels\" or RFC 3339 (default: now)")
	c.Flags().StringVar(&f.acr, "acr", "", "the level of the sign-in")
	c.Flags().StringSliceVar(&f.amr, "amr", nil, "its methods, comma-separated")
	c.Flags().DurationVar(&f.age, "age", 0, "how long ago it was, such as 10m (default: just now)")
	c.Flags().StringSliceVar(&f.group, "group", nil, "the person's groups, comma-separated")
	c.Flags().StringVar(&f.org, "org", "", "the person's organisation")
	c.Flags().StringVar(&f.idp, "idp", "", "the way to sign in")
	c.Flags().StringVar(&f.device, "device", "", "`known` when the account signed in with this browser before")
	c.Flags().StringArrayVar(&f.claim, "claim", nil, "a claim as NAME=VALUE; may be repeated")
	c.Flags().StringSliceVar(&f.scope, "scope", nil, "the scopes of an access token, comma-separated; it comes instead of a session")
	c.Flags().StringVar(&f.patient, "patient", "", "the patient of the access token")
}

// request makes what the policy is asked; the path and method come later.
func (f *askedFlags) request(now time.Time) (policy.Request, error) {
	r := policy.Request{Now: now}
	var problems []error
	if f.from != "" {
		addr, err := netip.ParseAddr(f.from)
		if err != nil {
			problems = append(problems, fmt.Errorf("--from %q: write an address such as 10.1.2.3", f.from))
		}
		r.Addr = addr.Unmap()
	}
	if f.at != "" {
		at, err := momentOf(f.at)
		problems = append(problems, err)
		r.Now = at
	}
	who, err := f.who(r.Now)
	r.Who = who
	return r, errors.Join(append(problems, err)...)
}

// momentOf reads "2026-11-23T08:00 Europe/Brussels", with a blank or a T, and RFC 3339.
func momentOf(text string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if i := strings.LastIndexByte(text, ' '); i > 0 {
		zone, err := time.LoadLocation(text[i+1:])
		if err == nil {
			for _, layout := range []string{"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05"} {
				if at, err := time.ParseInLocation(layout, text[:i], zone); err == nil {
					return at, nil
				}
			}
		}
	}
	return time.Time{}, fmt.Errorf("--at %q: write a time and its zone, such as \"2026-11-23T08:00 Europe/Brussels\"", text)
}

// who makes the person, nil for nobody.
func (f *askedFlags) who(now time.Time) (*policy.Subject, error) {
	who := &policy.Subject{
		ACR: f.acr, AMR: f.amr, AuthTime: now.Add(-f.age), Groups: f.group, Org: f.org, Source: f.idp,
		Bearer: len(f.scope) > 0, Scopes: f.scope, Patient: f.patient, Claims: map[string]string{},
	}
	var problems []error
	for _, claim := range f.claim {
		name, value, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			problems = append(problems, fmt.Errorf("--claim %q: write NAME=VALUE", claim))
		}
		who.Claims[name] = value
	}
	switch f.device {
	case "":
	case "known":
		who.Device = true
	default:
		problems = append(problems, fmt.Errorf("--device %q: write known, or leave it out", f.device))
	}
	roles, name, named := strings.Cut(f.as, ":")
	switch {
	case f.as == "anonymous":
		if f.says() {
			problems = append(problems, errors.New("--as anonymous is nobody: leave out what only somebody has, or write who it is, such as --as doctor"))
		}
		return nil, errors.Join(problems...)
	case named && name == "":
		problems = append(problems, fmt.Errorf("--as %q: write the name after the colon", f.as))
	case roles == "any", roles == "user" && named:
	default:
		who.Roles = strings.Split(roles, ",")
		if bad := slices.IndexFunc(who.Roles, func(r string) bool { return !policy.ValidRole(r) }); bad >= 0 {
			problems = append(problems, fmt.Errorf("--as %q: %q is no role; write anonymous, any, ROLE[,ROLE][:USER] or user:NAME", f.as, who.Roles[bad]))
		}
	}
	who.Username = name
	return who, errors.Join(problems...)
}

// says reports whether the flags say what only somebody who is signed in has.
func (f *askedFlags) says() bool {
	return f.acr+f.org+f.idp+f.device+f.patient != "" || f.age != 0 || len(f.amr)+len(f.group)+len(f.scope)+len(f.claim) > 0
}

// person is who it is, in words.
func (f *askedFlags) person(who *policy.Subject) string {
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
