package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// longestAge is the greatest max_age.
const longestAge = 30 * 24 * time.Hour

// requirement reads what a require line asks for.
func (p *reader) requirement() {
	if p.is(conditionWords...) {
		p.condition(p.next())
		return
	}
	word := p.next()
	wrong := fmt.Sprintf("%q is nothing that a sign-in shows, and no other condition", word)
	if word == "" {
		wrong = "it does not say what"
	}
	p.wrong("require", wrong, "`acr LEVEL`, `amr METHOD`, `max_age 5m`, `network NAME`, `hours mon-fri 07:00-19:00 Europe/Brussels`, `device known` or `when EXPRESSION` after the first word")
}

// age reads a time of whole seconds.
func (p *reader) age(reason, example, word string) time.Duration {
	age, err := time.ParseDuration(word)
	if days, isDays := strings.CutSuffix(word, "d"); isDays {
		var n int
		if n, err = strconv.Atoi(days); err == nil && n <= int(longestAge/(24*time.Hour)) {
			age = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || age < time.Second || age > longestAge || age%time.Second != 0 {
		if strings.HasPrefix(word, "/") {
			p.words = append([]string{word}, p.words...)
		}
		p.wrong(reason, fmt.Sprintf("%q is no time from one second to thirty days", word), "`"+example+"`: whole seconds, with one of the units s, m, h and d")
		return 0
	}
	return age
}

// badLevel says what is wrong with a value of acr or amr, "" when nothing is. Providers get several with blanks between them, and
// applications get them in quotes.
func badLevel(text string) string {
	if fault := badScope(text); fault != "" {
		return strings.Replace(fault, "a scope has", "it may have", 1)
	}
	return ""
}

// What a step-up asks for travels through the sign-in in addresses and cookies. These are the most that it may be, over all lines of
// a policy, so that no request can ask for more.
const (
	maxNeedNames = 16 // in one line
	maxNeedLists = 8  // of methods
	maxNeedText  = 500
)

// asked is what the lines of a policy ask sign-ins for, so far.
type asked struct {
	levels, methods int // characters
	lists           map[string]bool
}

// tooMuch adds a line, or says so when it asks for more than fits beside the others.
func (a *asked) tooMuch(line Line, r *rule) []*Problem {
	names, methods, more := len(r.need.ACR), a.methods, 0
	for _, list := range r.need.AMR {
		names += len(list)
		if text := strings.Join(list, ","); !a.lists[text] {
			methods, more = methods+len(text), more+1
		}
	}
	levels := max(a.levels, len(strings.Join(r.need.ACR, " ")))
	if names <= maxNeedNames && len(a.lists)+more <= maxNeedLists && levels+methods <= maxNeedText {
		a.levels, a.methods = levels, methods
		for _, list := range r.need.AMR {
			a.lists[strings.Join(list, ",")] = true
		}
		return nil
	}
	return []*Problem{{At: line.At, Line: strings.Join(line.Words, " "), Reason: "require", Wrong: "this is more than a sign-in can be asked for",
		Write: fmt.Sprintf("at most %d names in a line, %d different lists for amr, and %d characters in all", maxNeedNames, maxNeedLists, maxNeedText)}}
}

// unmeetable finds the lines that ask for levels of which none is the line's, where both hold.
func unmeetable(line Line, r *rule, others []*rule) (found []*Problem) {
	for _, other := range others {
		if len(r.need.ACR) > 0 && len(other.need.ACR) > 0 && !slices.ContainsFunc(r.need.ACR, func(level string) bool { return slices.Contains(other.need.ACR, level) }) && r.concernsSame(other) {
			found = append(found, &Problem{At: line.At, Line: strings.Join(line.Words, " "), Reason: "require",
				Wrong: "no sign-in meets this and `" + other.text + "` at once", Write: "the levels that are enough for both into each of them, or paths that do not overlap"})
		}
	}
	return found
}
