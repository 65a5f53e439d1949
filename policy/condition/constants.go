package condition

import (
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// What stands in an expression as a constant is read when the expression is: zones, networks, patterns, times.

// constants reads those of one call.
func (s *scanner) constants(call ast.CallExpr) {
	args, isMember := call.Args(), call.IsMemberFunction()
	switch name := call.FunctionName(); {
	case isMember && len(args) == 1 && slices.ContainsFunc(parts, func(p part) bool { return p.name == name }):
		s.zone(args[0])
	case name == "inNetwork" && !isMember && len(args) == 2:
		s.network(args[1])
	case name == "matches" && len(args) > 0:
		s.pattern(call, args[len(args)-1])
	case (name == "timestamp" || name == "duration") && !isMember && len(args) == 1:
		s.moment(name, args[0])
	}
}

func (s *scanner) zone(arg ast.Expr) {
	const write = "a name such as `\"Europe/Brussels\"` or `\"UTC\"`"
	zone, ok := literal(arg)
	if !ok {
		s.wrong(arg.ID(), "the zone is no text between quotes", write)
		return
	}
	location, fault := loadZone(zone)
	if fault != "" {
		s.wrong(arg.ID(), fmt.Sprintf("%q is no time zone: %s", zone, fault), write)
		return
	}
	s.tables.zones[zone] = location
}

// loadZone reads a constant zone: a name of the IANA database, or an offset such as "+02:00" as CEL has it. The zone of the machine
// is none: two nodes can differ in it.
func loadZone(name string) (*time.Location, string) {
	switch {
	case name == "" || name == "Local":
		return nil, "it has no name"
	case name[0] == '+' || name[0] == '-':
		at, err := time.Parse("-07:00", name)
		if err != nil {
			return nil, "an offset has four digits, such as +02:00"
		}
		_, seconds := at.Zone()
		return time.FixedZone(name, seconds), ""
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, "it is not in the database of zones"
	}
	return location, ""
}

func (s *scanner) network(arg ast.Expr) {
	const write = "one such as `\"10.0.0.0/8\"` or `\"192.0.2.7\"`"
	network, ok := literal(arg)
	if !ok {
		s.wrong(arg.ID(), "the network is no text between quotes", write)
		return
	}
	prefix, fault := ParseNetwork(network)
	if fault != "" {
		s.wrong(arg.ID(), fmt.Sprintf("%q is no network: %s", network, fault), write)
		return
	}
	s.tables.networks[network] = prefix
}

// ParseNetwork reads a network as it is written everywhere in a policy: one address, or a range without bits beyond its length (RFC
// 4632 section 3.1). wrong says why it is none.
func ParseNetwork(text string) (network netip.Prefix, wrong string) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), ""
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, "it is neither an address nor a range such as 10.0.0.0/8"
	case p.Addr().Is4In6():
		return netip.Prefix{}, "it is a range of IPv4 written as IPv6"
	case p != p.Masked():
		return netip.Prefix{}, fmt.Sprintf("it has bits beyond its length, and is %s", p.Masked())
	}
	return p, ""
}

func (s *scanner) pattern(call ast.CallExpr, arg ast.Expr) {
	pattern, ok := literal(arg)
	if !ok {
		s.wrong(arg.ID(), "the pattern is no text between quotes", "one such as `request.path.matches(\"^/x[0-9]+$\")`")
	} else if len(pattern) > maxPattern {
		s.wrong(arg.ID(), fmt.Sprintf("the pattern is longer than %d characters", maxPattern), "several, with `||` between them")
	} else if steps, err := stepsOf(pattern); err != nil {
		s.wrong(arg.ID(), "the pattern cannot be read: "+oneLine(err.Error()), "a pattern of RE2, such as `\"^/x[0-9]+$\"`")
	} else if steps > maxRegexp {
		s.wrong(arg.ID(), fmt.Sprintf("the pattern has %d parts when its repetitions are written out, more than %d", steps, maxRegexp), "it with fewer or smaller repetitions")
	} else {
		s.matched(call, steps)
	}
}

// stepsOf returns how many instructions a pattern has. CEL's own limit, cel.RegexProgramSizeLimit, panics at a repetition such as {3},
// since it compiles without simplifying first.
func stepsOf(pattern string) (int, error) {
	if _, err := regexp.Compile(pattern); err != nil {
		return 0, err
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0, err
	}
	return len(program.Inst), nil
}

// moment reads what timestamp and duration are about.
func (s *scanner) moment(name string, arg ast.Expr) {
	text, ok := literal(arg)
	var err error
	write := "`timestamp(\"2026-12-31T00:00:00Z\")`"
	if name == "timestamp" {
		_, err = time.Parse(time.RFC3339, text)
	} else {
		write = "`duration(\"8h\")`"
		_, err = time.ParseDuration(text)
	}
	if !ok {
		s.wrong(arg.ID(), "what "+name+" reads is no text between quotes", write)
	} else if err != nil {
		s.wrong(arg.ID(), fmt.Sprintf("%q is no %s", text, name), write)
	}
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}
