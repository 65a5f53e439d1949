package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the greatest length of a username in bytes, as for a sub claim (OpenID Connect Core section 2).
const maxName = 255

// maxRole is the greatest length of a role's name in bytes.
const maxRole = 64

// reader goes through the words of one line and collects what is wrong with it.
type reader struct {
	line     Line
	words    []string // not read yet
	rule     rule
	problems []*Problem
}

// parseLine returns the rule, or all problems of the line.
func parseLine(line Line) (*rule, []*Problem) {
	p := &reader{line: line, words: line.Words}
	p.rule.text = strings.Join(line.Words, " ")
	if line.At != "" {
		p.rule.text += " (" + line.At + ")"
	}
	p.action()
	if p.rule.demands {
		p.need()
	} else {
		p.who()
	}
	p.methods()
	p.paths()
	p.checkScopes()
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

// continues reports whether the next word belongs to list because somebody wrote blanks around a comma.
func (p *reader) continues(list string) bool {
	if len(p.words) == 0 || strings.HasPrefix(p.words[0], "/") {
		return false
	}
	return strings.HasSuffix(list, ",") || strings.HasPrefix(p.words[0], ",")
}

func (p *reader) action() {
	switch word := p.next(); word {
	case "allow":
	case "deny":
		p.rule.deny = true
	case "require":
		p.rule.demands, p.rule.who = true, whoEverybody
	default:
		p.wrong("action", fmt.Sprintf("%q is no rule", word), "`allow`, `deny` or `require` in lower case as the first word")
	}
}

// mistaken maps words that people try to the WHO they mean.
var mistaken = map[string]string{
	"everyone": "public", "everybody": "public", "anyone": "public", "anonymous": "public", "all": "public", "*": "public", "world": "public",
	"authenticated": "any", "signed-in": "any", "signed_in": "any", "session": "any", "login": "any", "valid-user": "any",
	"roles": "role NAME", "group": "role NAME", "groups": "role NAME", "users": "user NAME", "username": "user NAME", "sub": "user NAME",
	"scopes": "scope NAME", "bearer": "scope NAME", "token": "scope NAME",
}

func (p *reader) who() {
	switch word := p.next(); word {
	case "public":
		p.rule.who = whoPublic
	case "any":
		p.rule.who = whoAny
	case "role":
		p.rule.who = whoRole
		p.names("role")
	case "user":
		p.rule.who = whoUser
		p.names("user")
	case "scope":
		p.rule.who = whoScope
		p.scopes()
	case "":
		p.wrong("who", "it does not say who", "`public`, `any`, `role NAME`, `user NAME` or `scope NAME` after the first word")
	default:
		write := "`public` (everybody), `any` (everybody signed in), `role NAME`, `user NAME` or `scope NAME` (an access token's)"
		if right, ok := mistaken[lower(word)]; ok {
			write = "`" + right + "`"
		} else if known := lower(word); known == "public" || known == "any" || known == "role" || known == "user" || known == "scope" {
			write = "`" + known + "` in lower case"
		} else if badRole(word) == "" && !strings.HasPrefix(word, "/") {
			write = fmt.Sprintf("`role %s` or `user %s`, or one of `public` and `any`", word, word)
		}
		p.wrong("who", fmt.Sprintf("%q is nobody that a rule knows", word), write)
		if len(p.words) > 0 && mistaken[lower(word)] != "" && strings.HasSuffix(mistaken[lower(word)], "NAME") {
			p.next() // the list that belongs to it
		}
	}
}

// names reads the list after role or user.
func (p *reader) names(kind string) {
	check := badRole
	if kind == "user" {
		check = badUser
	}
	p.rule.names = p.list(kind, kind, check)
}

// list reads the list after kind, with commas and without blanks. reason is the code of its problems.
func (p *reader) list(kind, reason string, check func(string) string) []string {
	word := p.next()
	if word == "" || word[0] == '/' {
		p.wrong(reason, "it names no "+kind, fmt.Sprintf("`%s NAME`, several as `%s a,b`", kind, kind))
		if word != "" {
			p.words = append([]string{word}, p.words...)
		}
		return nil
	}
	text := word
	for p.continues(text) {
		text += p.next()
	}
	if text != word {
		p.wrong("blank", "the list of names has blanks in it", fmt.Sprintf("`%s %s`", kind, strings.Trim(text, ",")))
	}
	names := strings.Split(text, ",")
	for i, name := range names {
		if fault := check(name); fault != "" && (name != "" || text == word) {
			p.wrong(reason, fmt.Sprintf("%q cannot be a %s: %s", name, kind, fault), fmt.Sprintf("`%s a,b`: names without blanks, one comma between two", kind))
		} else if name != "" && slices.Contains(names[:i], name) {
			p.wrong("duplicate", fmt.Sprintf("it names %q twice", name), "it once")
		}
	}
	return names
}

// badRole says what is wrong with the name of a role, "" when nothing is.
func badRole(name string) string {
	if name == "" {
		return "it is empty"
	}
	if len(name) > maxRole {
		return fmt.Sprintf("it is longer than %d characters", maxRole)
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return "a role has letters, digits, dots, underscores and dashes only"
		}
	}
	return ""
}

// ValidRole reports whether name follows the grammar of role names, [A-Za-z0-9._-]{1,64}.
func ValidRole(name string) bool { return badRole(name) == "" }

func badUser(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > maxName:
		return fmt.Sprintf("it is longer than %d bytes", maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "it is no text"
	}
	return ""
}
