"""Data modules: teacher-student problems, and real data that ship with the dependencies."""

from ste_lightning.data.digits import Digits
from ste_lightning.data.teacher_student import TeacherStudent

__all__ = [
    "Digits",
    "TeacherStudent",
]
