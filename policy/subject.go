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

// maxRole is the greatest length of the name of a role, a group or a source in bytes.
const maxRole = 64

// mistaken maps words that people try to the WHO they mean.
var mistaken = map[string]string{
	"everyone": "public", "everybody": "public", "anyone": "public", "anonymous": "public", "all": "public", "*": "public", "world": "public",
	"authenticated": "any", "signed-in": "any", "signed_in": "any", "session": "any", "login": "any", "valid-user": "any",
	"roles": "role NAME", "users": "user NAME", "username": "user NAME", "sub": "user NAME",
	"groups": "group NAME", "organisation": "org NAME", "organization": "org NAME", "orgs": "org NAME", "source": "idp NAME", "provider": "idp NAME", "issuer": "idp NAME",
	"scopes": "scope NAME", "bearer": "scope NAME", "token": "scope NAME",
}

// whoWords are the words that say who.
var whoWords = []string{"public", "any", "role", "user", "group", "org", "idp", "device", "scope"}

// who reads WHO: public, any, or subjects.
func (p *reader) who() {
	if !p.is(whoWords...) {
		p.nobody(p.next())
		return
	}
	for p.is(whoWords...) {
		word := p.next()
		if before := p.rule.who; before == whoPublic || word == "public" && before != whoNone {
			p.wrong("who", "public is everybody, also who is nobody in particular", "`public` alone, or the others without it")
		} else if word != "device" && (before == whoAny && !p.rule.device || word == "any" && before != whoNone) {
			p.wrong("who", "any is everybody who is signed in, also without the rest", "`any` alone, or the others without it")
		}
		p.subject(word)
	}
	switch {
	case p.rule.kind == kindGlass && p.rule.who != whoSome, p.rule.kind == kindBudget && p.rule.who == whoPublic:
		p.wrong("who", fmt.Sprintf("a %s is for people whom it names", p.rule.kind), "`role NAME`, `group NAME`, `user NAME`, `org NAME` or `idp NAME`")
	case p.rule.kind == kindBudget && (p.rule.who == whoScope || p.rule.device):
		p.wrong("who", "what is counted would be dodged with another token, or another browser", "`any`, `role NAME`, `group NAME`, `user NAME`, `org NAME` or `idp NAME`")
	}
}

func (p *reader) subject(word string) {
	switch word {
	case "public":
		p.rule.who = whoPublic
	case "any":
		p.rule.who = whoAny
	case "device":
		p.condition(word)
		if p.rule.who == whoNone {
			p.rule.who = whoAny
		}
	case "scope":
		if p.rule.who == whoScope {
			p.again("scope", strings.Join(p.listed(), ","), "all of them as `scope a,b`: one is enough")
			return
		}
		p.rule.who = whoScope
		p.scopes()
	default:
		if p.rule.who != whoScope {
			p.rule.who = whoSome
		}
		p.names(word)
	}
}

// listed takes a list that is of no use.
func (p *reader) listed() []string { return strings.Split(p.listText(), ",") }

// nobody says what to write instead of a word that names nobody.
func (p *reader) nobody(word string) {
	if word == "" {
		p.wrong("who", "it does not say who", "`public`, `any`, `role NAME`, `user NAME`, `group NAME`, `org NAME`, `idp NAME`, `device known` or `scope NAME` after the first word")
		return
	}
	write := "`public` (everybody), `any` (everybody signed in), `role NAME`, `user NAME`, `group NAME`, `org NAME`, `idp NAME`, `device known` or `scope NAME` (an access token's)"
	known := lower(word)
	if i := slices.IndexFunc(whoWords, func(w string) bool { return w != known && len(known) > 2 && oneSlip(known, w) }); i >= 0 && mistaken[known] == "" {
		p.wrong("who", fmt.Sprintf("%q is nobody that a rule knows", word), "`"+whoWords[i]+"`")
		if len(p.words) > 0 && whoWords[i] != "public" && whoWords[i] != "any" {
			p.next() // the list that belongs to it
		}
		return
	}
	if slices.Contains(usual, word) {
		write = "who it is for first, then methods and paths: `role NAME " + word + " /path`"
	}
	if right, ok := mistaken[known]; ok {
		write = "`" + right + "`"
	} else if slices.Contains(whoWords, known) {
		write = "`" + known + "` in lower case"
	} else if badRole(word) == "" && !strings.HasPrefix(word, "/") && !slices.Contains(usual, word) {
		write = fmt.Sprintf("`role %s` or `user %s`, or one of `public` and `any`", word, word)
	}
	p.wrong("who", fmt.Sprintf("%q is nobody that a rule knows", word), write)
	if len(p.words) > 0 && strings.HasSuffix(mistaken[known], "NAME") {
		p.next() // the list that belongs to it
	}
}

// names reads the list after role, user, group, org or idp.
func (p *reader) names(kind string) {
	check := badRole
	if kind == "user" || kind == "org" {
		check = badUser
	}
	s := subject{names: p.list(kind, kind, check)}
	for s.by = range subjectKinds {
		if s.by.String() == kind {
			break
		}
	}
	if p.rule.names(s.by) != nil {
		p.again(kind, strings.Join(s.names, ","), fmt.Sprintf("one of several as `%s a,b`", kind))
		return
	}
	for _, name := range s.names {
		s.folded = append(s.folded, lower(name))
	}
	p.rule.subjects = append(p.rule.subjects, s)
}

// again says what is there twice, or that nothing is there.
func (p *reader) again(kind, what, write string) {
	if what == "" {
		p.wrong(kind, "it names no "+kind, write)
		return
	}
	p.wrong("duplicate", fmt.Sprintf("it says %s twice", kind), write)
}

// list reads the list after kind, with commas and without blanks. reason is the code of its problems.
func (p *reader) list(kind, reason string, check func(string) string) []string {
	if len(p.words) == 0 || p.words[0] == "" || p.words[0][0] == '/' {
		p.wrong(reason, "it names no "+kind, fmt.Sprintf("`%s NAME`, several as `%s a,b`", kind, kind))
		if p.is("") {
			p.next()
		}
		return nil
	}
	text, blanks := p.joined("the list of names", kind+" ")
	names := strings.Split(text, ",")
	for i, name := range names {
		if fault := check(name); fault != "" && (name != "" || !blanks) {
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
			return "such a name has letters, digits, dots, underscores and dashes only"
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
