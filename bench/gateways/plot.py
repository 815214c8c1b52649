"""A plot as SVG, written by hand: CPU a request, a bar for every gateway under every workload, user and kernel apart."""

COLOURS = {
    "tollgate": "#1f6feb", "bare": "#8b949e", "nginx": "#2da44e", "nginx-cache": "#7bc96f", "haproxy": "#bf8700",
    "envoy": "#cf222e", "envoy-cache": "#e5734f", "caddy": "#8250df",
}
LEFT, WIDTH, ROW, GAP, TOP = 170, 640, 15, 14, 62


def svg(figures):
    """The whole drawing. The lighter end of a bar is the kernel's part."""
    groups = [(workload, bars(figures, workload)) for workload in figures.workloads]
    groups = [(workload, found) for workload, found in groups if found]
    height = TOP + sum(ROW * len(found) + GAP for _, found in groups) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 90} {height}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        text(10, 20, "CPU a request, in microseconds", size=14, weight="bold"),
        text(10, 38, "median of the rounds; dark: user mode, light: kernel; each workload to its own scale", fill="#57606a"),
    ]
    at = TOP
    for workload, found in groups:
        parts.append(text(10, at + 11, workload, weight="bold"))
        most = max(user + kernel for _, user, kernel in found)
        for name, user, kernel in found:
            parts.extend(bar(at, name, user, kernel, WIDTH / most))
            at += ROW
        at += GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def bars(figures, workload):
    found = []
    for name in figures.gateways:
        user, kernel = (figures.median(workload, name, part) for part in ("user_us", "kernel_us"))
        if user is not None:
            found.append((name, user, kernel))
    return found


def bar(top, name, user, kernel, scale):
    colour = COLOURS.get(name, "#57606a")
    dark, light = user * scale, kernel * scale
    yield text(LEFT - 6, top + 11, name, anchor="end")
    yield f'<rect x="{LEFT}" y="{top + 1}" width="{dark:.1f}" height="{ROW - 3}" fill="{colour}"/>'
    yield f'<rect x="{LEFT + dark:.1f}" y="{top + 1}" width="{light:.1f}" height="{ROW - 3}" fill="{colour}" opacity="0.45"/>'
    yield text(LEFT + dark + light + 5, top + 11, f"{user + kernel:.1f}")


def text(x, y, words, size=11, weight="normal", fill="#1f2328", anchor="start"):
    return (f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
            f'text-anchor="{anchor}">{words}</text>')
