package caddymodule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// SessionRule says how long sessions last and how many a person may have: of everybody, or of some roles. What it leaves
// out is as for everybody.
type SessionRule struct {
	// The roles that it is about; none: everybody.
	Roles []string `json:"roles,omitempty"`
	// Time without a request after which a session ends, 1m to 24h. Default: 15m.
	Idle caddy.Duration `json:"idle,omitempty"`
	// Time after sign-in at which a session ends in any case, at most 24h. Default: 12h.
	Absolute caddy.Duration `json:"absolute,omitempty"`
	// How many sign-ins a person may have at once, 1 to 100. Default: any number.
	Sessions int `json:"sessions,omitempty"`
	// What happens beyond that: `move` offers to move the session to the new workstation, `refuse` refuses the new one.
	OnLimit string `json:"on_limit,omitempty"`
	// Where each word stands ("Caddyfile:12"), for messages.
	At string `json:"at,omitempty"`
}

// unmarshal reads
//
//	session {
//		idle     15m
//		absolute 12h
//		sessions 3 refuse
//	}
//	session role ROLE[,ROLE] idle 15m absolute 12h sessions 1 move
//
// The second form may have its words in a block, too.
func (r *SessionRule) unmarshal(d *caddyfile.Dispenser) error {
	r.At = at(d)
	words := d.RemainingArgs()
	if len(words) > 0 && words[0] == "role" {
		if len(words) < 2 {
			return d.Errf("write `session role ROLE idle 15m absolute 12h`, for example")
		}
		r.Roles = strings.Split(words[1], ",")
		for _, role := range r.Roles {
			if !policy.ValidRole(role) {
				return d.Errf("role %q: a role's name has 1 to 64 letters, digits, `.`, `_`, `-`", role)
			}
		}
		words = words[2:]
	}
	seen := map[string]bool{}
	for len(words) > 0 {
		n, err := r.word(words, seen)
		if err != nil {
			return d.WrapErr(err)
		}
		words = words[n:]
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		line := append([]string{d.Val()}, d.RemainingArgs()...)
		n, err := r.word(line, seen)
		if err == nil && n < len(line) {
			err = fmt.Errorf("%s takes nothing more, not %q", line[0], line[n])
		}
		if err != nil {
			return d.WrapErr(err)
		}
	}
	if len(seen) == 0 {
		return d.Errf("session says nothing; write at least one of `idle 15m`, `absolute 12h`, `sessions 1 move`")
	}
	return nil
}

// word reads the first word of a rule with its values and returns how many words that were.
func (r *SessionRule) word(words []string, seen map[string]bool) (int, error) {
	word, values := words[0], words[1:]
	if seen[word] {
		return 0, fmt.Errorf("%q stands twice in session", word)
	}
	seen[word] = true
	switch word {
	case "idle", "absolute":
		if len(values) == 0 {
			return 0, fmt.Errorf("%s needs a duration, for example `%s 15m`", word, word)
		}
		v, err := caddy.ParseDuration(values[0])
		if err != nil || v <= 0 {
			return 0, fmt.Errorf("%q is no duration; write for example 15m or 12h", values[0])
		}
		if word == "idle" {
			r.Idle = caddy.Duration(v.Round(time.Second))
		} else {
			r.Absolute = caddy.Duration(v.Round(time.Second))
		}
		return 2, nil
	case "sessions":
		return 3, r.limit(values)
	}
	return 0, fmt.Errorf("unrecognized word %q in session; want role, idle, absolute or sessions", word)
}

func (r *SessionRule) limit(words []string) error {
	if len(words) < 2 {
		return errors.New("write `sessions N move` or `sessions N refuse`")
	}
	n, err := strconv.Atoi(words[0])
	if err != nil {
		return fmt.Errorf("sessions %q: write how many sign-ins one person may have at once, 1 to 100", words[0])
	}
	r.Sessions, r.OnLimit = n, words[1]
	return nil
}

// check judges one rule by itself.
func (r SessionRule) check() error {
	day, i, abs := 24*time.Hour, time.Duration(r.Idle), time.Duration(r.Absolute)
	switch {
	case i != 0 && (i < time.Minute || i > day):
		return fmt.Errorf("session idle %s: write a duration from 1m to 24h", i)
	case abs != 0 && (abs < time.Minute || abs > day):
		return fmt.Errorf("session absolute %s: write a duration from 1m to 24h", abs)
	case abs != 0 && i > abs:
		return fmt.Errorf("session idle %s is longer than absolute %s; make idle the shorter one", i, abs)
	case r.Sessions < 0 || r.Sessions > 100 || r.Sessions == 0 && r.OnLimit != "":
		return fmt.Errorf("sessions %d: write how many sign-ins one person may have at once, 1 to 100", r.Sessions)
	case r.Sessions != 0 && r.OnLimit != "move" && r.OnLimit != "refuse":
		return fmt.Errorf("sessions %d %q: write `move` to offer moving the session to the new workstation, or `refuse`", r.Sessions, r.OnLimit)
	}
	return nil
}

// lifetime is the rule as the session package takes it.
func (r SessionRule) lifetime() session.Lifetime {
	return session.Lifetime{
		Idle: time.Duration(r.Idle), Absolute: time.Duration(r.Absolute), Sessions: r.Sessions, OnLimit: session.OnLimit(r.OnLimit),
	}
}

// lifetimes puts the rules together, with an error for each that contradicts another.
func lifetimes(rules []SessionRule) (session.Lifetimes, error) {
	all := session.Lifetimes{Roles: map[string]session.Lifetime{}}
	at := map[string]string{} // role, "" for everybody → where its rule stands
	var problems []error
	for _, r := range rules {
		if err := r.check(); err != nil {
			problems = append(problems, located(r.At, err))
		}
		names := r.Roles
		if len(names) == 0 {
			names = []string{""}
		}
		for _, role := range names {
			switch before, twice := at[role]; {
			case twice && role == "":
				problems = append(problems, located(r.At, fmt.Errorf("`session` for everybody stands at %s already; put both into one block", before)))
			case twice:
				problems = append(problems, located(r.At, fmt.Errorf("`session role %s` stands at %s already; put both into one line", role, before)))
			case role == "":
				all.Default = r.lifetime()
			default:
				all.Roles[role] = r.lifetime()
			}
			at[role] = r.At
		}
	}
	if len(problems) > 0 {
		return all, errors.Join(problems...)
	}
	for _, r := range rules { // an idle time that never comes says that something was meant otherwise
		for _, role := range r.Roles {
			if end := all.Of([]string{role}).Absolute; time.Duration(r.Idle) > end {
				problems = append(problems, located(r.At, fmt.Errorf("session role %s: idle %s is longer than absolute %s, which holds for everybody; add `absolute` to this line or make idle shorter", role, time.Duration(r.Idle), end)))
			}
		}
	}
	return all, errors.Join(append(problems, all.Check())...)
}

func located(at string, err error) error {
	if at == "" {
		return err
	}
	return fmt.Errorf("%s: %w", at, err)
}
