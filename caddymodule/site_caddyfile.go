package caddymodule

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// parseSite reads the site directive:
//
//	anteroom {
//		[shadow] allow|deny WHO [METHODS] [PATHS] [CONDITIONS]
//		[shadow] require CONDITION [METHODS] [PATHS]
//		break_glass WHO [METHODS] on PATHS for 30m [CONDITIONS]
//		budget WHO N distinct {VARIABLE} per 1h [alarm N] [then deny|step_up] [on PATHS]
//		use NAME…
//		expect WHO [WITH] METHOD PATH allow|deny|login|step_up|emergency
//		paths allow EXCEPTION… | ignore_case
//		contact "IT desk, telephone 4711"
//		bearer from NAME… | audience URI | unbound allow
//		allow_origin https://HOST[:PORT]…
//		on_store_loss deny | running_sessions 10m
//		assertion off | audience NAME
//	}
//
// What the lines of the policy say is judged when all of the config is known, for all sites at once (site_policy.go).
func parseSite(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // "anteroom"
	if _, ok := h.Option("anteroom").(httpcaddyfile.App); !ok {
		return nil, h.Errf("`anteroom` in a site needs the global option `anteroom { identity … }` at the top of the Caddyfile")
	}
	warnAdmin(h)
	const counter = "anteroom.blocks"
	n, _ := h.State[counter].(int)
	h.State[counter] = n + 1
	s := &Site{At: at(h.Dispenser), Block: n + 1}
	if h.NextArg() {
		return nil, h.Errf("`anteroom` takes a block and no matcher, not %q: it stands before everything in its site", h.Val())
	}
	for nesting := h.Nesting(); h.NextBlock(nesting); {
		var err error
		switch word := h.Val(); {
		case isRule(word):
			s.Rules, err = appendRule(s.Rules, h.Dispenser)
		case word == "expect":
			s.Expect, err = appendRule(s.Expect, h.Dispenser)
		default:
			err = s.line(h.Dispenser)
		}
		if err != nil {
			return nil, err
		}
	}
	return h.NewRoute(nil, s), nil
}

// isRule reports whether a line that begins with the word belongs to the policy.
func isRule(word string) bool {
	return slices.Contains([]string{"allow", "deny", "require", "shadow", "break_glass", "budget", "use"}, word)
}

// appendRule reads one line of the policy; the dispenser stands on its first word.
func appendRule(rules []Rule, d *caddyfile.Dispenser) ([]Rule, error) {
	r := Rule{At: at(d)}
	file, line := d.File(), d.Line()
	words, err := ruleWords(d)
	if err != nil {
		return nil, err
	}
	r.Words, r.Empty = words, emptyVariables(file, line, d.Line(), words[0])
	return append(rules, r), nil
}

// ruleWords reads the words of a line. What comes after `when` is one word, the text of the condition.
func ruleWords(d *caddyfile.Dispenser) ([]string, error) {
	words := []string{d.Val()}
	for d.NextArg() {
		words = append(words, d.Val())
		if d.Val() != "when" || d.Token().Quoted() {
			continue
		}
		text, err := readWhen(d)
		if err != nil {
			return nil, err
		}
		words = append(words, text)
	}
	return words, nil
}

// readWhen reads what comes after `when`: a block over several lines, one word in backquotes, or the rest of the line. Caddy's own
// reader takes no block that begins and ends in one line, and braces that touch the text only where no quote stands beside them. What it
// would change unseen is refused: the condition has to be what stands in the file.
func readWhen(d *caddyfile.Dispenser) (string, error) {
	nesting := d.Nesting()
	if d.CountRemainingArgs() == 1 {
		d.NextArg()
		return bare(d.Val()), unchanged(d, true)
	}
	var words []string
	var problem error
	take := func() { words, problem = append(words, d.ValRaw()), cmp.Or(problem, unchanged(d, false)) }
	for d.NextArg() {
		take()
	}
	for d.NextBlock(nesting) {
		take()
	}
	if problem != nil {
		return "", problem
	}
	text := bare(strings.Join(words, " "))
	if text == "" {
		return "", d.Errf("`when` needs a condition: write `when {`, the condition on the next line and `}` on the one after it")
	}
	return text, nil
}

// placeholder is one of Caddy's: its reader writes {path} as {http.request.uri.path}, and leaves the argument of a snippet as it is that
// was imported without one.
var placeholder = regexp.MustCompile(`\{(args\[|(http|env|file|vars|system|time|tls)\.)`)

// unchanged refuses a word of a condition of which Caddy's reader made something else. Alone tells that it is all of the condition.
func unchanged(d *caddyfile.Dispenser, alone bool) error {
	word, literal, comment := d.Val(), false, false
	if !d.Token().Quoted() {
		literal, comment = celLiteral(word)
	}
	switch {
	case placeholder.MatchString(word):
		return d.Errf("a placeholder of Caddy stands in this `when`, %s, and nothing is put in its place: write `request.path`, `request.host` and their kin, {$NAME} for a variable of the environment, and no word such as {path} or {host} in a text", word)
	case alone:
		return nil
	case d.Token().Quoted() && strings.Contains(word, `"`):
		return d.Errf("Caddy takes the backslash from \\\" in this `when`, which ends the text there; write the whole condition in backquotes")
	case comment:
		return d.Errf("a comment with `//` would hide the lines after it in this `when`; begin it with `#`, or write the whole condition in backquotes")
	case literal:
		return d.Errf("blanks within '…' do not stay as they are in this `when` (at %s); write the text in \"…\", or the whole condition in backquotes", word)
	}
	return nil
}

// celLiteral reports whether a word ends within a text of CEL, and whether it begins a comment.
func celLiteral(word string) (open, comment bool) {
	quote := byte(0)
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case strings.HasPrefix(word[i:], "//"):
			return false, true
		}
	}
	return quote != 0, false
}

// bare takes the braces off a condition.
func bare(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		text = strings.TrimSpace(text[1 : len(text)-1])
	}
	return text
}

// line reads a line that is none of the policy's.
func (s *Site) line(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "paths":
		return s.pathsLine(d)
	case "contact":
		return oneArg(d, &s.Contact)
	case "allow_origin":
		origins := d.RemainingArgs()
		if len(origins) == 0 {
			return d.Errf("allow_origin needs at least one origin, for example https://portal.hospital.example")
		}
		s.AllowOrigins = append(s.AllowOrigins, origins...)
		return nil
	case "bearer":
		return s.Bearer.unmarshal(d)
	case "on_store_loss", "assertion":
		return s.option(d)
	}
	return d.Errf("unrecognized line %q; want one of allow, deny, require, shadow, break_glass, budget, use, expect, paths, contact, bearer, allow_origin, on_store_loss, assertion", d.Val())
}

// pathsLine reads `paths allow EXCEPTION…` and `paths ignore_case`.
func (s *Site) pathsLine(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case slices.Equal(args, []string{ignoreCase}):
	case len(args) > 1 && args[0] == "allow":
		args = args[1:]
	default:
		return d.Errf("write `paths allow %s` (one or more of these) or `paths %s`", strings.Join(exceptionNames(), "|"), ignoreCase)
	}
	s.Paths = append(s.Paths, args...)
	if _, err := s.exceptions(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// option reads `on_store_loss` and `assertion`.
func (s *Site) option(d *caddyfile.Dispenser) error {
	word, args := d.Val(), d.RemainingArgs()
	switch {
	case word == "on_store_loss" && slices.Equal(args, []string{"deny"}):
		s.OnStoreLoss = 0
	case word == "on_store_loss" && len(args) == 2 && args[0] == "running_sessions":
		v, err := caddy.ParseDuration(args[1])
		if err != nil || v < time.Minute || v > 12*time.Hour {
			return d.Errf("on_store_loss running_sessions %s: write a duration from 1m to 12h", args[1])
		}
		s.OnStoreLoss = caddy.Duration(v.Round(time.Second))
	case word == "on_store_loss":
		return d.Errf("write `on_store_loss deny` or `on_store_loss running_sessions 10m`")
	case slices.Equal(args, []string{"off"}):
		s.NoAssertion = true
	case len(args) == 2 && args[0] == "audience":
		s.Audience = args[1]
	default:
		return d.Errf("write `assertion off` or `assertion audience NAME`")
	}
	return nil
}
