<%@ page contentType="text/plain; charset=utf-8" session="false" import="java.io.*, java.net.*, java.nio.charset.*, java.util.*" %><%!
	// A servlet that says how it reads a path. Each request is a line in the file $HITS: the number that the request
	// carries, the person, the servlet that it was routed to, the target as it came, and the path in each way in which
	// applications of this kind read it; all percent-encoded, with blanks between.
	static String field(String s) {
		return s == null || s.isEmpty() ? "-" : URLEncoder.encode(s, StandardCharsets.UTF_8).replace("+", "%20").replace("%2F", "/");
	}

	// cut is how filters read that drop everything after the first parameter.
	static String cut(String uri) {
		int end = uri.indexOf(';');
		return URLDecoder.decode((end < 0 ? uri : uri.substring(0, end)).replace("+", "%2B"), StandardCharsets.UTF_8);
	}
%><%
	String path = request.getServletPath() + (request.getPathInfo() == null ? "" : request.getPathInfo());
	String query = request.getQueryString() == null ? "" : "?" + request.getQueryString();
	String line = String.join(" ", field(request.getHeader("X-Attack")), field(request.getHeader("Remote-User")),
		field(request.getHttpServletMapping().getServletName()), field(request.getRequestURI() + query), field(path), field(cut(request.getRequestURI())));
	try (OutputStream hits = new FileOutputStream(System.getenv("HITS"), true)) {
		hits.write((line + "\n").getBytes(StandardCharsets.US_ASCII));
	}
	for (String name : Collections.list(request.getHeaderNames())) {
		out.print("HTTP_" + name.toUpperCase(Locale.ROOT).replace('-', '_') + ": " + String.join(",", Collections.list(request.getHeaders(name))) + "\n");
	}
%>
