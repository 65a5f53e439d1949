package caddymodule

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/spf13/cobra"
)

// reasons are those of a decision in words.
var reasons = map[string]string{
	policy.ReasonAllowed: "a line allows it", policy.ReasonDenied: "a line denies it", policy.ReasonNoRule: "no line allows it",
	policy.ReasonNoSession: "nobody is signed in: a browser goes to the sign-in, a script gets 401", policy.ReasonCondition: "a condition is not met",
	policy.ReasonStepUp: "the sign-in is too weak or too old: a browser goes through a new one, a script gets the challenge",
	policy.ReasonScope:  "the token's scopes are too few", policy.ReasonMethod: "the policy does not know the method", "ambiguous-path": "the path can be read in two ways",
}

// print writes a decision for a terminal.
func (e *explainedDecision) print(c *cobra.Command) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) { // Flush tells of errors
		_, _ = fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, values...)))
	}
	verdict := "DENIED"
	switch {
	case e.Allowed:
		verdict = "ALLOWED"
	case e.Reason == policy.ReasonStepUp:
		verdict = "STEP-UP"
	case e.Reason == policy.ReasonNoSession:
		verdict = "SIGN-IN"
	}
	_, _ = fmt.Fprintf(w, "%s: %s\n\n", verdict, cmp.Or(reasons[e.Reason], e.Reason))
	row("request", "%s https://%s%s", e.Method, e.Site, e.Path)
	row("who", "%s", e.Who)
	row("when", "%s", e.At.Format("Mon 2006-01-02 15:04:05 MST"))
	row("decided by", "%s", cmp.Or(e.Rule, "no line"))
	if e.StepUp != nil {
		row("step-up", "%s", e.StepUp)
	}
	if e.Emergency != nil {
		row("emergency", "possible for %s, for %s%s: %s", e.Emergency.Scope, seconds(e.Emergency.Seconds), e.Emergency.before(), e.Emergency.Rule)
	} else if !e.Allowed {
		row("emergency", "not possible")
	}
	for _, b := range e.Budgets {
		row("budget", "counts %q, %d in %s, then %s: %s", b.Value, b.Limit, seconds(b.Per), b.Then, b.Rule)
	}
	if e.Shadow != nil {
		row("shadow lines", "%s", e.Shadow)
	}
	if s := e.Session; s != nil {
		limit := "any number at once"
		if s.Sessions.Count > 0 {
			limit = fmt.Sprintf("%d at once, then %s", s.Sessions.Count, s.Sessions.OnLimit)
		}
		row("session", "idle %s (%s), absolute %s (%s), %s (%s)", seconds(s.Idle.Seconds), s.Idle.origin, seconds(s.Absolute.Seconds), s.Absolute.origin, limit, s.Sessions.origin)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return e.printLines(c)
}

// printLines writes the lines that match path and method, and the warnings.
func (e *explainedDecision) printLines(c *cobra.Command) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	if len(e.Lines) == 0 {
		_, _ = fmt.Fprintln(w, "\nNo line has this path and method.") // Flush tells of errors
	} else {
		_, _ = fmt.Fprintln(w, "\nLines with this path and method:")
	}
	for _, l := range e.Lines {
		holds := "holds"
		if !l.Holds {
			holds = "does not: " + cmp.Or(l.Why, "it is about somebody else")
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", printable(l.Rule), printable(holds))
	}
	for _, warning := range e.Warnings {
		_, _ = fmt.Fprintf(w, "\nWarning: %s.\n", printable(warning))
	}
	return w.Flush()
}

// before says what comes before an emergency access.
func (g *explainedGlass) before() string {
	text := ""
	if g.StepUp != nil {
		text = ", after " + g.StepUp.String()
	}
	if g.Fresh > 0 {
		text += ", with a sign-in within " + seconds(g.Fresh) + " while the provider answers"
	}
	return text
}

func (n *explainedNeed) String() string {
	var parts []string
	if len(n.ACR) > 0 {
		parts = append(parts, "acr "+strings.Join(n.ACR, " or "))
	}
	for _, list := range n.AMR {
		parts = append(parts, "amr "+strings.Join(list, " or "))
	}
	if n.MaxAge > 0 {
		parts = append(parts, "no longer ago than "+seconds(n.MaxAge))
	}
	return "a new sign-in with " + strings.Join(parts, " and ")
}

func (s *explainedShadow) String() string {
	verdict := "deny"
	if s.Allowed {
		verdict = "allow"
	}
	if !s.Differs {
		return "would " + verdict + " it, too"
	}
	return fmt.Sprintf("would %s it: %s", verdict, cmp.Or(s.Rule, "no line allows it"))
}
