package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy/condition"
)

// conditionWords begin the conditions of a line.
var conditionWords = []string{"network", "hours", "acr", "amr", "max_age", "when", "device"}

// conditions reads what comes after the paths.
func (p *reader) conditions() {
	for len(p.words) > 0 {
		if !p.is(conditionWords...) {
			word := p.next()
			write := "the conditions `network`, `hours`, `acr`, `amr`, `max_age` or `when` with what belongs to each, and nothing after them"
			switch {
			case p.rule.kind == kindGlass && (oneSlip(word, "fresh") || oneSlip(word, "drill")):
				write = "`fresh 5m` and `drill` after `for 30m`, before the conditions"
			case p.rule.kind == kindRequire:
				write = "one condition after `require`, and after it methods and paths only"
			case strings.HasPrefix(word, "/") || badMethod(word) == "":
				write = "methods and paths before the conditions"
			}
			p.wrong("condition", fmt.Sprintf("%q is nothing that can be here", word), write)
			return
		}
		if p.rule.kind == kindRequire || p.rule.kind == kindBudget {
			p.wrong("condition", fmt.Sprintf("a %s line has no condition after its paths", p.rule.kind), "`require CONDITION PATHS` in a line of its own for each condition")
			p.words = nil
			return
		}
		p.condition(p.next())
	}
}

// condition reads what belongs to one of conditionWords.
func (p *reader) condition(word string) {
	before := p.words
	defer func() {
		p.rule.terms = append(p.rule.terms, Term{word, before[:max(0, len(before)-len(p.words))]})
	}()
	switch need := &p.rule.need; word {
	case "network":
		p.network()
	case "hours":
		p.hours()
	case "device":
		p.device()
	case "when":
		p.readWhen()
	case "acr":
		if need.ACR != nil {
			p.again(word, word, "the levels that are enough as `acr a,b`")
		}
		need.ACR = p.list("acr", "require", badLevel)
	case "amr":
		if need.AMR != nil {
			p.again(word, word, "one of several methods as `amr a,b`, and `require amr c` in a line of its own for a second one")
		}
		if list := p.list("amr", "require", badLevel); list != nil {
			need.AMR = [][]string{list}
		}
	case "max_age":
		if need.MaxAge != 0 {
			p.again(word, word, "the shorter time")
		}
		need.MaxAge = p.age("require", "max_age 5m", p.next())
	}
}

// device reads the word after device.
func (p *reader) device() {
	if !p.is("known") {
		p.wrong("device", "it does not say which device", "`device known`: a browser that this account signed in with before")
		if len(p.words) > 0 && !strings.HasPrefix(p.words[0], "/") && badMethod(p.words[0]) != "" {
			p.next()
		}
		p.rule.device = true
		return
	}
	p.next()
	if p.rule.device {
		p.again("device", "known", "it once")
	}
	p.rule.device = true
}

// readWhen takes the one word of an expression.
func (p *reader) readWhen() {
	text := p.next()
	switch {
	case strings.TrimSpace(text) == "":
		p.wrong("when", "it says not when", "an expression, `when {request.time.getHours(\"Europe/Brussels\") < 20}`")
	case p.when != "":
		p.again("when", text, "one expression, with `&&` between the two")
	}
	p.when = text
}

// checkWhen compiles the expression, which can look at the variables that all paths of the line have.
func (p *reader) checkWhen() {
	if p.when == "" || len(p.problems) > 0 {
		return
	}
	names := []string{}
	for i, pattern := range p.rule.patterns {
		here := []string{}
		for _, v := range variables(pattern) {
			if i == 0 || slices.Contains(names, v.name) {
				here = append(here, v.name)
			}
		}
		names = here
	}
	when, err := condition.Compile(p.when, names, p.config.Claims)
	if err == nil {
		p.rule.when = when
		return
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for _, err := range list {
		var fault *condition.Error
		if !errors.As(err, &fault) {
			p.wrong("when", err.Error(), "another expression")
			continue
		}
		where := ""
		if fault.Column > 0 {
			where = fmt.Sprintf("column %d of the expression: ", fault.Column)
		}
		p.wrong("when", where+fault.Wrong, fault.Write)
	}
}
