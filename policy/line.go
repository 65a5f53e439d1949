package policy

import (
	"fmt"
	"slices"
	"strings"
)

// reader goes through the words of one line and collects what is wrong with it.
type reader struct {
	config   *Config
	line     Line
	words    []string // not read yet
	rule     rule
	when     string // the expression, which is compiled when the paths are known
	problems []*Problem
}

// parseLine returns the rule, or all problems of the line.
func parseLine(c *Config, line Line) (*rule, []*Problem) {
	p := &reader{config: c, line: line, words: line.Words}
	p.rule.words, p.rule.at = strings.Join(line.Words, " "), line.At
	p.rule.text = p.rule.words
	if line.At != "" {
		p.rule.text += " (" + line.At + ")"
	}
	p.action()
	switch p.rule.kind {
	case kindRequire:
		p.requirement()
		p.methods()
		p.paths()
	case kindGlass:
		p.who()
		p.methods()
		p.glass()
	case kindBudget:
		p.who()
		p.readBudget()
	default:
		p.who()
		p.methods()
		p.paths()
	}
	p.conditions()
	p.glassConditions()
	p.check()
	if len(p.problems) > 0 {
		return nil, p.problems
	}
	return &p.rule, nil
}

func (p *reader) wrong(reason, wrong, write string) {
	p.problems = append(p.problems, &Problem{At: p.line.At, Line: strings.Join(p.line.Words, " "), Reason: reason, Wrong: wrong, Write: write})
}

// next takes the next word, "" when there is none.
func (p *reader) next() string {
	if len(p.words) == 0 {
		return ""
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word
}

// is reports whether the next word is one of these.
func (p *reader) is(words ...string) bool {
	return len(p.words) > 0 && slices.Contains(words, p.words[0])
}

// continues reports whether the next word belongs to list because somebody wrote blanks around a comma.
func (p *reader) continues(list string) bool {
	if len(p.words) == 0 || strings.HasPrefix(p.words[0], "/") {
		return false
	}
	return strings.HasSuffix(list, ",") || strings.HasPrefix(p.words[0], ",")
}

// listText takes a list that has commas and no blanks, "" when a path or nothing comes.
func (p *reader) listText() string {
	if len(p.words) == 0 || strings.HasPrefix(p.words[0], "/") {
		return ""
	}
	text, _ := p.joined("the list", "")
	return strings.Trim(text, ",")
}

// joined takes a list, also one with blanks around its commas, which it says. before is what a message puts before the list.
func (p *reader) joined(what, before string) (text string, blanks bool) {
	word := p.next()
	text = word
	for p.continues(text) {
		text += p.next()
	}
	if text != word {
		p.wrong("blank", what+" has blanks in it", "`"+before+strings.Trim(text, ",")+"`")
	}
	return text, text != word
}

func (p *reader) action() {
	word := p.next()
	if word == "shadow" {
		p.rule.shadow = true
		word = p.next()
	}
	switch word {
	case "allow":
	case "deny":
		p.rule.kind = kindDeny
	case "require":
		p.rule.kind, p.rule.who = kindRequire, whoEverybody
	case "break_glass", "budget":
		p.rule.kind = kindGlass
		if word == "budget" {
			p.rule.kind = kindBudget
		}
		if p.rule.shadow {
			p.wrong("action", fmt.Sprintf("%s has no shadow: it decides nothing by itself", word), "`shadow` before `allow`, `deny` and `require` only")
		}
	default:
		p.wrong("action", fmt.Sprintf("%q is no rule", word), "`allow`, `deny` or `require`, `break_glass` or `budget` in lower case as the first word")
	}
}

// check looks at a line when all of it is known.
func (p *reader) check() {
	r := &p.rule
	if r.kind == kindDeny && r.device {
		p.wrong("device", "whoever deletes a cookie is on an unknown device, so that such a deny is dodged", "`require device known` with the same paths")
	}
	if r.kind == kindDeny && !r.need.isZero() {
		p.wrong("condition", "a deny is not lifted by a sign-in, and a weaker one would dodge it", "`require acr LEVEL`, `require amr METHOD` or `require max_age 5m` in a line of its own")
	}
	if r.who == whoPublic && (!r.need.isZero() || r.device) {
		p.wrong("who", "public is also who never signed in, and has shown nothing", "`any` for everybody who is signed in")
	}
	if r.who == whoScope && r.device {
		p.wrong("device", "an application with a token has no device that is known", "the line without `device known`")
	}
	if r.kind == kindGlass && len(r.words) > longestGlassLine {
		p.wrong("break_glass", fmt.Sprintf("it is longer than %d bytes, more than a grant can hold", longestGlassLine), "several lines, and what is required into `require` lines")
	}
	p.checkScopes()
	p.checkWhen()
}
