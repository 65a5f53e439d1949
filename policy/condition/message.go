package condition

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
)

// needsName is what has says to anything but a name.
const needsName = "has() asks for a name; write one such as `has(claim.dept)`"

func joined(all []error) error {
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

// name checks one name of the form user.roles.
func (s *scanner) name(id int64, name string) {
	root, field, _ := strings.Cut(name, ".")
	switch {
	case known[name] != nil:
	case root == "path":
		if !slices.Contains(s.vars, field) {
			write := "a variable into the paths of the line, such as `/patients/{" + field + "}/**`"
			if close := nearest(field, s.vars); close != "" {
				write = "`path." + close + "`"
			} else if len(s.vars) > 0 {
				write = "one of `path." + strings.Join(s.vars, "`, `path.") + "`, or " + write
			}
			s.wrong(id, fmt.Sprintf("the paths of the line have no {%s}", field), write)
			return
		}
	case root == "claim":
		if s.claims != nil && !slices.Contains(s.claims, field) {
			write := "`claim " + field + "` into the identity source, which makes it known"
			if close := nearest(field, s.claims); close != "" {
				write = "`claim." + close + "`"
			}
			s.wrong(id, fmt.Sprintf("no identity source has a claim %q", field), write)
			return
		}
	default:
		s.wrong(id, fmt.Sprintf("%q is no name", name), s.near(name))
		return
	}
	s.names[name] = true
}

// meant are words that people try, and what they mean.
var meant = map[string]string{
	"request.ip": "request.address", "request.remote_ip": "request.address", "request.client_ip": "request.address", "request.addr": "request.address",
	"request.remote_addr": "request.address", "source.ip": "request.address", "source.address": "request.address", "request.url": "request.path",
	"request.uri": "request.path", "request.now": "request.time", "request.verb": "request.method", "request.hostname": "request.host",
	"user.role": "user.roles", "user.group": "user.groups", "user.username": "user.name", "user.id": "user.name", "user.sub": "user.name",
	"user.organization": "user.org", "user.organisation": "user.org", "user.device": "user.device_known", "user.claims": "claim.NAME",
	"request.params": "path.NAME", "now": "request.time", "time": "request.time", "ip": "request.address", "address": "request.address",
	"method": "request.method", "host": "request.host", "query": "request.query", "roles": "user.roles", "groups": "user.groups", "role": "user.roles",
	"acr": "user.acr", "amr": "user.amr", "org": "user.org", "idp": "user.idp", "and": "&&", "or": "||", "not": "!",
	"True": "true", "TRUE": "true", "False": "false", "FALSE": "false",
}

// near says what to write instead of a name that does not exist.
func (s *scanner) near(name string) string {
	if right := meant[name]; right != "" {
		return "`" + right + "`"
	}
	names := slices.Sorted(maps.Keys(known))
	if close := nearest(name, names); close != "" {
		return "`" + close + "`"
	}
	root, _, _ := strings.Cut(name, ".")
	var same []string
	for _, n := range names {
		if strings.HasPrefix(n, root+".") {
			same = append(same, n)
		}
	}
	if len(same) > 0 {
		return "one of `" + strings.Join(same, "`, `") + "`"
	}
	return "`\"" + name + "\"` if the text is meant, or a name that begins with `request.`, `user.`, `path.` or `claim.`"
}

func example(root string) string {
	return map[string]string{"request": "request.method", "user": "user.roles", "path": "path.NAME", "claim": "claim.NAME"}[root]
}

// nearest returns the one of the words that a slip of the hand makes of it, "" when there is none.
func nearest(word string, words []string) string {
	best, distance := "", 3
	for _, w := range words {
		if len(word) < 4 && distance > 2 {
			distance = 2
		}
		if d := edits(strings.ToLower(word), strings.ToLower(w)); d < distance {
			best, distance = w, d
		}
	}
	return best
}

// edits is the distance of Levenshtein.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

// explain puts CEL's messages into words. What it does not know stays as it is.
func explain(issues *cel.Issues, text string) error {
	var all []error
	for i, issue := range issues.Errors() {
		if i == 5 {
			break
		}
		wrong, write := translate(issue.Message, text)
		e := &Error{Wrong: wrong, Write: write}
		if issue.Location.Line() > 0 {
			e.Line, e.Column = issue.Location.Line(), issue.Location.Column()+1
		}
		all = append(all, e)
	}
	return joined(all)
}

var (
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
	mismatch   = regexp.MustCompile(`^expected type '([^']*)' but found '([^']*)'$`)
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	extraneous = regexp.MustCompile(`(?:mismatched input|extraneous input|no viable alternative at input|token recognition error at:) '((?:[^'\\]|\\.|'')*)'`)
)

func translate(message, text string) (wrong, write string) {
	message = oneLine(message)
	switch {
	case message == oneLine(needsName):
		wrong, write, _ = strings.Cut(message, "; write ")
		return wrong, write
	case strings.Contains(message, "limit"):
		return "it is too long or too deep (" + message + ")", "several lines of the policy"
	}
	if m := noOverload.FindStringSubmatch(message); m != nil {
		return overload(m[1], m[2])
	}
	if m := mismatch.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("this is of type %s, and %s is needed", m[2], m[1]), "a comparison, such as `user.acr == \"mfa\"`"
	}
	if m := undeclared.FindStringSubmatch(message); m != nil {
		return unknownFunction(m[1])
	}
	if m := extraneous.FindStringSubmatch(message); m != nil {
		return unreadable(m[1], text)
	}
	switch {
	case strings.HasSuffix(message, "does not support field selection"):
		return "this has nothing after another dot", "the name without it"
	case strings.Contains(message, "cannot be range of a comprehension"):
		return "this is no list to go through", "a list before `exists` and `all`, such as `user.roles`"
	case message == "argument must be a simple name":
		return "this is no word for an element", "a word, such as `user.roles.exists(r, r.startsWith(\"ward\"))`"
	case strings.Contains(message, "missing ')'") || strings.Contains(message, "missing ']'"):
		return "a bracket is not closed", "`)` or `]` where it ends"
	}
	if word, ok := strings.CutPrefix(message, "reserved identifier: "); ok {
		return fmt.Sprintf("%q is a word of the language", word), "another name, or the text between quotes"
	}
	return message, "an expression of CEL, such as `\"doctor\" in user.roles && request.method == \"GET\"`"
}

func unreadable(token, text string) (wrong, write string) {
	switch {
	case token == "<EOF>":
		return "it ends too early", "the rest of it: an operand, a quote or a bracket is missing"
	case token == "=" || strings.HasPrefix(token, "="):
		return "a single = compares nothing", "`==`"
	case token == "&" || token == "|" || strings.HasPrefix(token, "& ") || strings.HasPrefix(token, "| "):
		return fmt.Sprintf("a single %s is no operator", token[:1]), "`" + token[:1] + token[:1] + "`"
	case token == "and" || token == "or":
		return fmt.Sprintf("%q is no operator", token), "`" + meant[token] + "`"
	case token == "in" && strings.Contains(text, "not in"):
		return "`not in` is no operator", "`!(x in list)`"
	case strings.ContainsAny(token, "“”„‘’«»"):
		return "these are quotes of a letter", "straight ones, `\"`"
	case token == ",":
		return "a list has no place here", "it in brackets, such as `[\"a\", \"b\"]`"
	case token == "{" || token == "}":
		return "a brace has no place here", "the expression without braces"
	}
	return fmt.Sprintf("%q has no place here", token), "an expression of CEL: texts between quotes, `==`, `&&`, `||`, `!`, `in`"
}

func unknownFunction(name string) (wrong, write string) {
	switch name {
	case "map", "filter", "dyn", "type", "bytes", "has":
		return name + " is not available here", "`exists`, `all` or a comparison"
	case "in", "inCidr", "isInNetwork", "in_network", "ip", "cidr":
		return fmt.Sprintf("%q is no function", name), "`inNetwork(request.address, \"10.0.0.0/8\")`"
	case "now", "date":
		return fmt.Sprintf("%q is no function", name), "`request.time`"
	case "getHour", "hour", "hours":
		return fmt.Sprintf("%q is no function", name), "`request.time.getHours(\"Europe/Brussels\")`"
	}
	functions := []string{"contains", "startsWith", "endsWith", "matches", "size", "exists", "all", "exists_one", "inNetwork", "timestamp", "duration", "int", "double", "string"}
	for _, part := range parts {
		functions = append(functions, part.name)
	}
	if close := nearest(name, functions); close != "" {
		return fmt.Sprintf("%q is no function", name), "`" + close + "`"
	}
	return fmt.Sprintf("%q is neither a name nor a function", name), "one of " + strings.Join(functions[:9], ", ")
}

// overload explains an operator or function whose operands do not fit.
func overload(function, applied string) (wrong, write string) {
	operator := strings.Trim(strings.TrimPrefix(function, "@"), "_")
	operator = strings.ReplaceAll(operator, "_", "")
	switch {
	case strings.Contains(applied, "address"):
		return fmt.Sprintf("%s does not take an address", operator), "`inNetwork(request.address, \"10.0.0.0/8\")`"
	case function == "@in":
		return "`in` needs a list after it, of values of the same kind: it has " + applied, "`\"doctor\" in user.roles` or `user.acr in [\"a\", \"b\"]`"
	case strings.Contains(applied, "list(string)") && (operator == "==" || operator == "!="):
		return "a list does not equal a text", "`\"doctor\" in user.roles`"
	case function == "_&&_" || function == "_||_" || function == "!_":
		return operator + " needs what is true or false, and has " + applied, "a comparison on both sides"
	}
	return fmt.Sprintf("%s does not take %s", operator, applied), "values of the same kind on both sides: texts between quotes, numbers without"
}

func article(t *cel.Type) string {
	switch text := cel.FormatCELType(t); text {
	case "string":
		return "a text"
	case "int", "uint", "double":
		return "a number"
	case "timestamp":
		return "a time"
	default:
		return "a value of type " + text
	}
}

// oneLine keeps a foreign message from breaking a log or a page.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}
