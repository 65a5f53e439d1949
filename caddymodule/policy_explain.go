package caddymodule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/spf13/cobra"
)

// explainedDecision is what `policy explain` prints.
type explainedDecision struct {
	Site      string            `json:"site"`
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Who       string            `json:"who"`
	At        time.Time         `json:"at"`
	Allowed   bool              `json:"allowed"`
	Reason    string            `json:"reason"`
	Rule      string            `json:"rule,omitempty"`
	Route     string            `json:"route,omitempty"`
	StepUp    *explainedNeed    `json:"step_up,omitempty"`
	Lines     []explainedLine   `json:"lines"`
	Emergency *explainedGlass   `json:"emergency,omitempty"`
	Budgets   []explainedBudget `json:"budgets,omitempty"`
	Shadow    *explainedShadow  `json:"shadow,omitempty"`
	Session   *explainedSession `json:"session,omitempty"`
	Warnings  []string          `json:"warnings"`
}

// explainedNeed is what a new sign-in has to show.
type explainedNeed struct {
	ACR    []string   `json:"acr,omitempty"`
	AMR    [][]string `json:"amr,omitempty"`
	MaxAge int64      `json:"max_age,omitempty"` // seconds
}

// explainedLine is a line whose path and method match.
type explainedLine struct {
	Rule  string `json:"rule"`
	Route string `json:"route"`
	Kind  string `json:"kind"`
	Holds bool   `json:"holds"`
	Why   string `json:"why,omitempty"`
}

// explainedGlass is the emergency access that the person could take.
type explainedGlass struct {
	Rule    string         `json:"rule"`
	Scope   string         `json:"scope"`
	Seconds int64          `json:"seconds"`
	StepUp  *explainedNeed `json:"step_up,omitempty"` // what a new sign-in has to show before
	Fresh   int64          `json:"fresh,omitempty"`   // seconds: how old the sign-in may be while the provider answers
	Drill   bool           `json:"drill,omitempty"`
}

// explainedBudget is a view budget that counts the request.
type explainedBudget struct {
	Rule  string `json:"rule"`
	Value string `json:"value"`
	Limit int    `json:"limit"`
	Per   int64  `json:"per"` // seconds
	Alarm int    `json:"alarm,omitempty"`
	Then  string `json:"then"`
}

// explainedShadow is what the shadow lines would make of it.
type explainedShadow struct {
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule,omitempty"`
	Differs bool   `json:"differs"`
}

// explainedSession is how long such a session lasts.
type explainedSession struct {
	Idle     explainedTime  `json:"idle"`
	Absolute explainedTime  `json:"absolute"`
	Sessions explainedLimit `json:"sessions"`
}

// policyExplainCommand is `policy explain`.
func policyExplainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain --as WHO METHOD URL",
		Short: "Says whether a request is allowed, which line decides, and why",
		Long: "Decides one request by the config and prints: the decision and the line that made it, all lines whose path and method match (each: holds, or why not), what a new sign-in would have to show, " +
			"whether the person could break the glass, the view budgets that count it, what the shadow lines would say, and how long such a session lasts. " +
			"What is not said is not there: no address, no level, no groups. With one site in the config a path is enough.",
		Example: "  anteroom policy explain --as doctor GET https://medrecords.hospital.example/patients/7\n" +
			"  anteroom policy explain --as doctor:dana --from 10.1.2.3 --at \"2026-11-23T08:00 Europe/Brussels\" --acr mfa POST /orders",
		Args: cobra.ExactArgs(2),
	}
	var f policyFlags
	var asked askedFlags
	f.add(c)
	asked.add(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		g, err := f.load()
		if err != nil {
			return fmt.Errorf("explaining: %w", err)
		}
		e, err := g.decide(&asked, args[0], args[1], time.Now())
		if err != nil {
			return fmt.Errorf("explaining: %w", err)
		}
		if f.asJSON {
			return printJSON(c, e)
		}
		return e.print(c)
	}
	return c
}

// decide decides one request and says all about it.
func (g *judgedConfig) decide(asked *askedFlags, method, address string, now time.Time) (*explainedDecision, error) {
	asker, err := asked.asker()
	if err != nil {
		return nil, err
	}
	r := policy.Request{Now: now, Addr: asker.Addr}
	if !asker.Time.IsZero() {
		r.Now = asker.Time
	}
	r.Who = asker.Person(r.Now)
	s, host, path, query, err := g.target(address)
	if err != nil {
		return nil, err
	}
	if !policy.ValidMethod(method) {
		return nil, fmt.Errorf("%q is no method that a request may have; write one in upper case, such as GET", method)
	}
	r.Method, r.Query, r.Host = method, query, cmp.Or(asker.Host, host)
	e := &explainedDecision{Site: host, Method: method, Path: path, Who: person(r.Who), At: r.Now, Lines: []explainedLine{}, Warnings: []string{}}
	if r.Path, err = s.Policy.ParsePath(path); err != nil {
		e.Reason = "ambiguous-path"
		e.Warnings = append(e.Warnings, "no line decided: the request is answered with 400, whoever asks ("+err.Error()+")")
		return e, nil
	}
	if own := g.prefix(); r.Path.Under(own) { // as the gate takes it, which lets them have one spelling
		if _, err := policy.ParsePath(path); err != nil || path+"/" != own && !strings.HasPrefix(path, own) {
			e.Reason = "ambiguous-path"
			e.Warnings = append(e.Warnings, "no line decided: the request is answered with 400, whoever asks (another spelling of "+own+", where anteroom's own pages lie)")
			return e, nil
		}
		e.Warnings = append(e.Warnings, "the application never sees what lies under "+own+": these are anteroom's own pages, and no line decides on them")
	}
	e.fill(s.Policy, r)
	return e, g.about(e, r.Who)
}

// prefix is that of our own pages.
func (g *judgedConfig) prefix() string {
	if g.app.Prefix == "" {
		return "/.anteroom/"
	}
	return g.app.Prefix
}

// fill asks the policy.
func (e *explainedDecision) fill(p *policy.Policy, r policy.Request) {
	x := p.Explain(r)
	d := x.Decision
	e.Allowed, e.Reason, e.Rule, e.Route = d.Allowed, d.Reason, d.Rule, d.Route
	for _, m := range x.Matched {
		e.Lines = append(e.Lines, explainedLine{m.Rule, m.Route, m.Kind, m.Holds, m.Why})
	}
	if d.Reason == policy.ReasonStepUp {
		e.StepUp = needOf(&d.Need)
	}
	if d.Allowed {
		p.Counts(r, func(c policy.Count) bool {
			then := "deny"
			if c.StepUp {
				then = "step_up"
			}
			e.Budgets = append(e.Budgets, explainedBudget{c.Rule, c.Value, c.Limit, int64(c.Per / time.Second), c.Alarm, then})
			return true
		})
	} else if glass, ok := p.Emergency(r); ok && r.Who != nil {
		e.Emergency = &explainedGlass{glass.Rule, glass.Scope, int64(glass.For / time.Second), needOf(glass.Need), int64(glass.Fresh / time.Second), glass.Drill}
	}
	if x.Costly {
		e.Warnings = append(e.Warnings, "the expressions of all lines together cost more than one decision may, with a path as long as this one: those that came last count as not known")
	}
	if shadow := p.Shadow(); shadow != nil {
		d := shadow.Decide(r)
		e.Shadow = &explainedShadow{d.Allowed, d.Rule, d.Allowed != e.Allowed}
	}
}

func needOf(n *policy.Need) *explainedNeed {
	if n == nil {
		return nil
	}
	return &explainedNeed{n.ACR, n.AMR, int64(n.MaxAge / time.Second)}
}

// about adds what the app knows: lifetimes, and roles that nobody gets.
func (g *judgedConfig) about(e *explainedDecision, who *policy.Subject) error {
	if who == nil {
		return nil
	}
	known, err := g.app.known()
	if err != nil {
		return err
	}
	for _, role := range who.Roles {
		if !slices.Contains(known.roles, role) {
			e.Warnings = append(e.Warnings, fmt.Sprintf("no way to sign in gives the role %s; known are %s", role, strings.Join(known.roles, ", ")))
		}
	}
	if who.Bearer {
		return nil
	}
	var s explainedSession
	if s.Idle, s.Absolute, s.Sessions, err = explainLifetimes(g.app.Session, who.Roles); err != nil {
		return err
	}
	e.Session = &s
	return nil
}
