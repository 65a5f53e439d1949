package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy/condition"
)

// span is a range of addresses, both ends in it. Addresses of IPv4 are never written as those of IPv6.
type span struct{ from, to netip.Addr }

// network reads the list after network: names of the configuration, prefixes, addresses.
func (p *reader) network() {
	word := p.listText()
	if word == "" || p.rule.networks != nil {
		p.again("network", word, "`network NAME`, `network 10.0.0.0/8` or several as `network a,b`")
		return
	}
	var list []netip.Prefix
	names := strings.Split(word, ",")
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			p.wrong("duplicate", fmt.Sprintf("it names %q twice", name), "it once")
		}
		prefixes, fault := p.prefixes(name)
		if fault != "" {
			p.wrong("network", fmt.Sprintf("%q is no network: %s", name, fault), p.knownNetworks())
		}
		list = append(list, prefixes...)
	}
	p.rule.network, p.rule.networks = word, spans(list)
}

// prefixes returns what one name stands for.
func (p *reader) prefixes(name string) (list []netip.Prefix, fault string) {
	if list, ok := p.config.Networks[name]; ok {
		if len(list) == 0 {
			return nil, "it has no addresses"
		}
		return list, ""
	}
	prefix, fault := condition.ParseNetwork(name)
	return []netip.Prefix{prefix}, fault
}

func (p *reader) knownNetworks() string {
	known := slices.DeleteFunc(slices.Sorted(maps.Keys(p.config.Networks)), func(name string) bool { return len(p.config.Networks[name]) == 0 })
	if len(known) == 0 {
		return "an address or a prefix such as `10.0.0.0/8`, or name the network in the configuration"
	}
	return "one of `" + strings.Join(known, "`, `") + "`, an address, or a prefix such as `10.0.0.0/8`"
}

// spans puts prefixes in order and together. All addresses of IPv4 come before those of IPv6.
func spans(list []netip.Prefix) []span {
	all := make([]span, 0, len(list))
	for _, prefix := range list {
		addr, bits := prefix.Addr(), prefix.Bits()
		if addr.Is4In6() && bits >= 96 { // ::ffff:10.0.0.0/104 is 10.0.0.0/8
			addr, bits = addr.Unmap(), bits-96
		}
		masked, err := addr.Prefix(bits)
		if err != nil {
			continue // an impossible prefix holds nobody
		}
		all = append(all, span{masked.Addr(), last(masked)})
	}
	slices.SortFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
	joined := all[:0]
	for _, s := range all {
		if n := len(joined) - 1; n >= 0 && s.from.Compare(joined[n].to) <= 0 {
			if joined[n].to.Less(s.to) {
				joined[n].to = s.to
			}
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// last returns the last address of a prefix.
func last(prefix netip.Prefix) netip.Addr {
	b := prefix.Addr().AsSlice()
	for i := prefix.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// within reports whether an address is in one of the ranges; unknown is the answer for none.
func within(list []span, addr netip.Addr, unknown bool) bool {
	if !addr.IsValid() {
		return unknown
	}
	addr = addr.Unmap().WithZone("")
	at, found := slices.BinarySearchFunc(list, addr, func(s span, a netip.Addr) int { return s.from.Compare(a) })
	if found {
		return true
	}
	return at > 0 && addr.Compare(list[at-1].to) <= 0
}
