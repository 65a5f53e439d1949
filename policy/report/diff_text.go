package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Write writes what changes for a terminal, what opens first.
func (c *Comparison) Write(w io.Writer) error {
	var b strings.Builder
	for _, host := range c.Removed {
		fmt.Fprintf(&b, "OPENED %s: the new config does not gate this site any more; whatever serves it then, no policy decides\n", printable(host))
	}
	for _, host := range c.Added {
		fmt.Fprintf(&b, "NEW SITE %s: compared with nothing, which lets nobody in\n", printable(host))
	}
	for _, direction := range directions {
		c.group(&b, direction)
	}
	for i, x := range c.Beside {
		if i == 0 {
			b.WriteString("\nBESIDE THE DECISIONS\n")
		}
		what := map[bool]string{true: "not any more", false: "new"}[x.Gone]
		if x.Opens {
			what += ", may open"
		}
		fmt.Fprintf(&b, "  %s  %s: %s\n", printable(x.Site), what, printable(x.Line))
	}
	for i, text := range c.Sampled {
		if i == 0 {
			b.WriteString("\nNOT ALL WAS LOOKED AT: what was left out can have changed unseen\n")
		}
		fmt.Fprintf(&b, "  %s\n", printable(text))
	}
	if b.Len() == 0 {
		fmt.Fprintf(&b, "Nothing changes: %d decisions were compared.\n", c.Asked)
	} else {
		fmt.Fprintf(&b, "\n%d decisions were compared.\n", c.Asked)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// headings say what each direction is.
var headings = map[Direction]string{
	Opened: "OPENED", Changed: "CHANGED: it depends on something else than before, and may open", Closed: "CLOSED",
}

func (c *Comparison) group(b *strings.Builder, direction Direction) {
	site, first := "", true
	for _, x := range c.Changes {
		if x.Direction != direction {
			continue
		}
		if first {
			fmt.Fprintf(b, "\n%s\n", headings[direction])
			first = false
		}
		if x.Site != site {
			site = x.Site
			fmt.Fprintf(b, "  %s\n", printable(site))
		}
		methods := strings.Join(x.Methods, ",")
		if len(x.Methods) >= len(usual) && !slices.ContainsFunc(usual, func(u string) bool { return !slices.Contains(x.Methods, u) }) {
			methods = "all"
		}
		fmt.Fprintf(b, "    %s  %s %s: %s → %s", printable(x.Who), methods, printable(x.Route), printable(describe(x.Before)), printable(describe(x.After)))
		if rule := cmp.Or(x.After.Rule, x.Before.Rule); rule != "" {
			fmt.Fprintf(b, "; decided by %s", printable(rule))
		}
		if x.Because != "" {
			fmt.Fprintf(b, "; for example %s", printable(x.Because))
		}
		b.WriteString("\n")
	}
}
