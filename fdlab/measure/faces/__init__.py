"""Faces: found with landmarks, aligned, and recognised by networks with real weights that ship with fdlab.

detector, recogniser = FaceDetector(), FaceRecogniser()
faces = detector(images_BHW3)                     # one list of Face a picture, falling in score
vector_ND = recogniser.embed(images_BHW3, faces)  # unit length, all faces of all pictures in order
identity_similarity = vector_ND[0] @ vector_ND[1]
"""

from __future__ import annotations

from fdlab.measure.faces.detector import FaceDetector
from fdlab.measure.faces.face import LANDMARKS, Face, by_size, largest
from fdlab.measure.faces.head import HeadCrop, cut_head
from fdlab.measure.faces.recogniser import FaceRecogniser, FaceresRecogniser, Recogniser
from fdlab.measure.faces.subject_faces import SubjectFaces

__all__ = [
    "LANDMARKS",
    "Face",
    "FaceDetector",
    "FaceRecogniser",
    "FaceresRecogniser",
    "HeadCrop",
    "Recogniser",
    "SubjectFaces",
    "by_size",
    "cut_head",
    "largest",
]
