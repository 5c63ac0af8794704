#include "text_boxes.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace ocr {
namespace {

struct Point {
    double x, y;
};

double cross(const Point& o, const Point& a, const Point& b) {
    return (a.x - o.x) * (b.y - o.y) - (a.y - o.y) * (b.x - o.x);
}

// Andrew's monotone chain; `points` must be sorted by (x, y).  Collinear points are left out.
std::vector<Point> convex_hull(const std::vector<Point>& points) {
    if (points.size() < 3) return points;
    std::vector<Point> hull;
    const auto add_chain = [&hull](auto begin, auto end) {
        const std::size_t start = hull.size();
        for (auto it = begin; it != end; ++it) {
            while (hull.size() >= start + 2 && cross(hull[hull.size() - 2], hull.back(), *it) <= 0) hull.pop_back();
            hull.push_back(*it);
        }
        hull.pop_back();
    };
    add_chain(points.begin(), points.end());
    add_chain(points.rbegin(), points.rend());
    return hull;
}

// The smallest rectangle around `hull`: one of its sides lies on a side of the hull.
Box smallest_rectangle(const std::vector<Point>& hull) {
    Box best;
    double best_area = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < hull.size(); ++i) {
        const Point& from = hull[i];
        const Point& to = hull[(i + 1) % hull.size()];
        const double length = std::hypot(to.x - from.x, to.y - from.y);
        const double ux = length > 0 ? (to.x - from.x) / length : 1, uy = length > 0 ? (to.y - from.y) / length : 0;
        double low_u = std::numeric_limits<double>::infinity(), high_u = -low_u, low_v = low_u, high_v = -low_u;
        for (const Point& p : hull) {
            const double u = p.x * ux + p.y * uy, v = p.y * ux - p.x * uy;
            low_u = std::min(low_u, u);
            high_u = std::max(high_u, u);
            low_v = std::min(low_v, v);
            high_v = std::max(high_v, v);
        }
        const double area = (high_u - low_u) * (high_v - low_v);
        if (area >= best_area) continue;
        best_area = area;
        const double u = (low_u + high_u) / 2, v = (low_v + high_v) / 2;
        best.centre_x = u * ux - v * uy;
        best.centre_y = u * uy + v * ux;
        best.axis_x = ux;
        best.axis_y = uy;
        best.width = high_u - low_u;
        best.height = high_v - low_v;
    }
    return best;
}

// Turns the box so that its axis is the one nearer to left-to-right.
void face_right(Box& box) {
    if (std::abs(box.axis_x) < std::abs(box.axis_y)) {
        std::swap(box.width, box.height);
        const double x = box.axis_x;
        box.axis_x = box.axis_y;
        box.axis_y = -x;
    }
    if (box.axis_x < 0) {
        box.axis_x = -box.axis_x;
        box.axis_y = -box.axis_y;
    }
}

// One connected piece of text pixels.
struct Piece {
    std::vector<Point> outline;  // each row's first and last pixel: enough for the hull
    double sum = 0;
    std::size_t pixels = 0;
};

std::vector<Piece> connected_pieces(const float* probability, int height, int width, double threshold) {
    const auto index = [width](int x, int y) {
        return static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x);
    };
    std::vector<char> seen(index(0, height), 0);
    std::vector<Piece> pieces;
    std::vector<std::pair<int, int>> stack;
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            if (seen[index(x, y)] || !(probability[index(x, y)] > threshold)) continue;
            Piece piece;
            std::vector<std::pair<int, int>> reach(static_cast<std::size_t>(height), {width, -1});
            seen[index(x, y)] = 1;
            stack.assign(1, {x, y});
            while (!stack.empty()) {
                const auto [px, py] = stack.back();
                stack.pop_back();
                piece.sum += probability[index(px, py)];
                ++piece.pixels;
                auto& [first, last] = reach[static_cast<std::size_t>(py)];
                first = std::min(first, px);
                last = std::max(last, px);
                for (int ny = std::max(0, py - 1); ny <= std::min(height - 1, py + 1); ++ny) {
                    for (int nx = std::max(0, px - 1); nx <= std::min(width - 1, px + 1); ++nx) {
                        if (seen[index(nx, ny)] || !(probability[index(nx, ny)] > threshold)) continue;
                        seen[index(nx, ny)] = 1;
                        stack.emplace_back(nx, ny);
                    }
                }
            }
            for (int row = 0; row < height; ++row) {
                const auto [first, last] = reach[static_cast<std::size_t>(row)];
                if (last < 0) continue;
                piece.outline.push_back({static_cast<double>(first), static_cast<double>(row)});
                if (last > first) piece.outline.push_back({static_cast<double>(last), static_cast<double>(row)});
            }
            pieces.push_back(std::move(piece));
        }
    }
    return pieces;
}

// Top to bottom; boxes that stand on one line (their centres differ by less than half a height) left to right.
void sort_for_reading(std::vector<Box>& boxes) {
    std::sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.centre_y < b.centre_y; });
    for (auto line = boxes.begin(); line != boxes.end();) {
        auto end = line + 1;
        while (end != boxes.end() && end->centre_y - line->centre_y < line->height / 2) ++end;
        std::sort(line, end, [](const Box& a, const Box& b) { return a.centre_x < b.centre_x; });
        line = end;
    }
}

}  // namespace

std::vector<Box> find_text_boxes(const float* probability, int height, int width, double scale, const BoxRules& rules) {
    std::vector<Box> boxes;
    for (Piece& piece : connected_pieces(probability, height, width, rules.pixel_threshold)) {
        std::sort(piece.outline.begin(), piece.outline.end(),
                  [](const Point& a, const Point& b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
        Box box = smallest_rectangle(convex_hull(piece.outline));
        box.score = piece.sum / static_cast<double>(piece.pixels);
        // The hull went through pixel centres; the pixels reach half a pixel further on each side.
        box.width += 1;
        box.height += 1;
        if (std::min(box.width, box.height) < rules.smallest_side || box.score < rules.box_threshold) continue;
        const double grow = box.width * box.height * rules.unclip_ratio / (2 * (box.width + box.height));
        box.width = (box.width + 2 * grow) / scale;
        box.height = (box.height + 2 * grow) / scale;
        box.centre_x = (box.centre_x + 0.5) / scale;
        box.centre_y = (box.centre_y + 0.5) / scale;
        face_right(box);
        boxes.push_back(box);
    }
    sort_for_reading(boxes);
    return boxes;
}

}  // namespace ocr
